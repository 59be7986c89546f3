"Multi-word tokenizers: lossless on any Unicode, stock to load, the word stage kept, nothing glued that must stay apart."
import json, os, subprocess, sys
from collections import Counter
from importlib.resources import files
from pathlib import Path
import numpy as np, pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from tokenizers.decoders import DecodeStream
from transformers import AutoTokenizer
from hyperlex_nb import hyperlexemes as H
from hyperlex_nb.hyperlexemes import Atoms, choose_multiwords, read_atoms, train_hyperlexemes
from hyperlex_nb.pieces import choose_words

SAID = ['Он сказал, что это не так, потому что в том числе и в 1917 году всё было иначе. ',
        'Она знала, что бессознательное знание — это не то, о чём мы говорим; и тем не менее говорила: «Да!»\n',
        'В том числе потому, что дом стоял у реки, и мы ходили туда каждый день. США и СССР, 12 345 руб.\n']
TEXTS = [''.join(SAID).replace('дом', w).replace('знала', v)*2 for w in 'дом сад лес храм клуб'.split()
         for v in 'знала думала помнила поняла верила'.split()]
FEW = dict(least_types=2, least_uses=3, least_char=2)
SLOW = pytest.mark.skipif(not os.environ.get('HYPERLEX_SLOW'), reason='slow: set HYPERLEX_SLOW=1')
SHIPPED = {'hyperlex-64k': 64_000, 'hyperlex-128k': 128_000}

@pytest.fixture(scope='module')
def tok(): return train_hyperlexemes(TEXTS, 1400, **FEW)

@pytest.fixture(scope='module')
def shipped(): return {n: AutoTokenizer.from_pretrained(str(files('hyperlex_nb')/'assets'/n)) for n in SHIPPED}

# --- lossless ---------------------------------------------------------------------------------

HOSTILE = ['', ' ', '  ', '\n', '\r\n', '\r', '\t', '\0', 'a\0b', '  лидирующие', 'хвост  ', ' \n \n\t ', 'а\r\n\r\n\tб\r', '👩‍👩‍👧‍👦', '👍🏽🇷🇺',
           'за́мок замо́к', 'e\u0301 é', 'й И\u0306 и\u0306', '\u0301', 'Zнак λόγος 漢字 شعر עברית हिन्दी', '\ufeffBOM', '\u2028\u2029\x85\x0b\x0c\x1c',
           '\u00a0\u202f', '\uffff\U0010ffff', '<|endoftext|>', '<|user|>я<|end|>', '<unk>', '<0x41>', '<0xD0>я', 'x<0x0A>', '�', ' '*500, '\n'*500,
           '1234567890', '١٢٣', '²³½', '!?…—«»'*40, 'Ġ', '▁слово', 'def f(x):\r\n\treturn x**2  # ё\n', 'ЁЖИК Ёжик ёжик еЖиК',
           '\ue000', '\ue001', '\ue000\ue001', '\ue000А', '\ue000 А', '\ue000а \ue000 а', 'А\ue000\ue000 Б\ue001', ' А  Б\tВ\nГ']

@pytest.mark.parametrize('text', HOSTILE, ids=lambda s: ascii(s[:12]))
def test_hostile_strings_survive(tok, shipped, text):
    for t in (tok, *shipped.values()):
        ids = t(text)['input_ids']
        assert t.decode(ids) == text
        assert not set(ids) & set(t.all_special_ids)

LETTERS = st.sampled_from([*' \n\r\tабвАБЁё.,—0123x<|>\u0301\ue000\ue001', '<0x41>', '<|end|>', ' Он', ', что', '\r\n'])
ANY = st.one_of(st.text(st.characters(exclude_categories=['Cs']), max_size=60), st.lists(LETTERS, max_size=40).map(''.join))

@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY)
def test_round_trip_of_any_unicode(tok, shipped, text):
    for t in (tok, shipped['hyperlex-64k']): assert t.decode(t(text)['input_ids']) == text

@SLOW
def test_round_trip_of_a_hundred_thousand_strings(shipped):
    @settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(ANY)
    def check(text):
        for t in shipped.values(): assert t.decode(t(text)['input_ids']) == text
    check()

@pytest.mark.parametrize('char', 'жЖ \n.1x')
def test_a_megabyte_with_no_break(tok, char):
    text = char*(1_000_000//len(char.encode()))
    assert tok.decode(tok(text)['input_ids']) == text

@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY)
def test_offsets_cover_the_text_in_order(tok, text):
    spans = tok(text, return_offsets_mapping=True)['offset_mapping']
    assert set().union(*(range(a, b) for a,b in spans)) == set(range(len(text)))
    assert all(a <= c and b <= d for (a,b),(c,d) in zip(spans, spans[1:]))

@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY)
def test_a_stream_of_tokens_gives_the_text(tok, text):
    stream = DecodeStream(skip_special_tokens=False)
    assert ''.join(stream.step(tok.backend_tokenizer, i) or '' for i in tok(text)['input_ids']) == text

def test_any_tokens_decode(tok):
    rng = np.random.default_rng(0)
    for _ in range(200): assert isinstance(tok.decode(rng.integers(0, len(tok), 20).tolist()), str)

# --- stock ------------------------------------------------------------------------------------

def test_loads_without_our_code(tok, tmp_path):
    tok.save_pretrained(tmp_path)
    code = ('import sys; sys.modules["hyperlex_nb"] = None\n'
            'from transformers import AutoTokenizer\n'
            't = AutoTokenizer.from_pretrained(sys.argv[1]); s = "Он сказал, что да"\n'
            'print(t.is_fast, t.decode(t(s)["input_ids"]) == s, len(t))')
    out = subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert out.split() == ['True', 'True', str(len(tok))]

def test_training_is_reproducible_and_takes_a_generator(tok):
    again = train_hyperlexemes((t for t in TEXTS), 1400, **FEW)
    assert again.backend_tokenizer.to_str() == tok.backend_tokenizer.to_str()

def test_special_tokens_have_the_first_ids(tok):
    assert [tok.convert_tokens_to_ids(t) for t in H._SPECIAL] == list(range(len(H._SPECIAL)))
    assert (tok.bos_token, tok.eos_token, tok.pad_token) == ('<|endoftext|>', '<|endoftext|>', '<|pad|>')
    ids = tok('<|user|>', split_special_tokens=False)['input_ids']
    assert ids == [tok.convert_tokens_to_ids('<|user|>')]

# --- what may be glued ------------------------------------------------------------------------

def pieces(t): return [p for p,_ in json.loads(t.backend_tokenizer.to_str())['model']['vocab'][len(H._SPECIAL)+256:]]

def test_digits_and_newlines_stand_apart(tok, shipped):
    for t in (tok, *shipped.values()):
        for p in pieces(t):
            if any(c.isdecimal() for c in p): assert p.strip(' ').isdecimal() and len(p.strip(' ')) <= 3 and not p.endswith(' '), repr(p)
            if any(c in '\r\n' for c in p): assert not p.strip('\r\n'), repr(p)

def test_multiwords_are_found(tok):
    assert sum(len(p.replace(H._UP, '').split()) > 1 for p in pieces(tok)) > 20
    with_, without = (len(t(SAID[0])['input_ids']) for t in (tok, train_hyperlexemes(TEXTS, 1400, longest=1, **FEW)))
    assert with_ < without

def test_the_multiword_stage_keeps_the_word_stage(tmp_path):
    atoms = read_atoms(TEXTS, tmp_path)
    words = choose_words(atoms.types, H._type_uses(atoms, 10), 200, H._ALWAYS, **FEW)
    both = choose_multiwords(atoms, words, 100)
    assert set(words.text) <= set(both.text) and len(words) < len(both) <= len(words)+100
    assert not [p for p in set(both.text)-set(words.text) if any(c.isdigit() or c in '\r\n\t' for c in p)]

# --- counting ---------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(2, 4), st.integers(1, 3), st.integers(1, 30))
def test_frequent_runs_equal_a_counter(ids, longest, least, block):
    stop = np.array([False, False, False, True, False])
    blocks = lambda: ((np.array(ids[a:a+block]), None) for a in range(0, len(ids), block))
    parts = [ids[a:a+block] for a in range(0, len(ids), block)]
    want = Counter(tuple(p[i:i+n]) for p in parts for n in range(2, longest+1) for i in range(len(p)-n+1) if 3 not in p[i:i+n])
    want = {r for r,c in want.items() if c >= least}
    key = lambda r: int(list(H._spans(np.array(r)+1, len(r)))[-1][1][0])
    assert sorted(map(int, H._frequent(blocks, stop, longest, least))) == sorted(map(key, want)) or \
           set(map(int, H._frequent(blocks, stop, longest, least))) == set(map(key, want))

def test_a_use_fades_after_the_cap():
    ids, work = np.array([0]*9 + [1]*2 + [0]), np.array([0]*9 + [0, 1] + [1])
    assert list(H._faded(ids, work, 3, 4)) == [5, 2, 0]
    assert list(H._faded(ids[:0], work[:0], 2, 4)) == [0, 0]

def test_atoms_lose_nothing(tmp_path):
    texts = [t for t in HOSTILE if t != '<0x41>']   # by itself it would be a byte to the decoder
    atoms = read_atoms(texts, tmp_path)
    back = lambda i: H._decoder().decode(['', ''.join(atoms.types[k] for k in atoms.stream[atoms.ends[i]:atoms.ends[i+1]])])
    assert [back(i) for i in range(len(texts))] == texts

def test_a_small_sample_still_trains():
    t = train_hyperlexemes(TEXTS, 1100, sample=2048, **FEW)
    assert t.decode(t(SAID[1])['input_ids']) == SAID[1]

# --- bad input --------------------------------------------------------------------------------

@pytest.mark.parametrize('kw, said', [(dict(vocab_size=10), 'at least 1000'), (dict(vocab_size='64k'), 'whole number'), (dict(vocab_size=True), 'whole'),
                                      (dict(vocab_size=2000, cut='best'), 'cut must be'), (dict(vocab_size=2000, share=0), 'share')])
def test_bad_parameters_say_so(kw, said):
    with pytest.raises(ValueError, match=said): train_hyperlexemes(TEXTS, **kw)

def test_bad_texts_say_so():
    with pytest.raises(ValueError, match='nothing to train'): train_hyperlexemes([], 2000)
    with pytest.raises(ValueError, match='nothing to train'): train_hyperlexemes(['', ''], 2000)
    with pytest.raises(ValueError, match='surrogate'): train_hyperlexemes(['a\ud800'], 2000)
    with pytest.raises(TypeError, match='one string'): train_hyperlexemes('текст', 2000)
    with pytest.raises(TypeError, match='int'): train_hyperlexemes([1], 2000)

# --- what ships -------------------------------------------------------------------------------

def test_shipped_tokenizers_have_their_size(shipped):
    for name,t in shipped.items(): assert len(t) == SHIPPED[name] and t.is_fast

def test_shipped_tokenizers_need_few_tokens(shipped):
    page = ('Вчера вечером я долго сидел у окна и думал о том, что будет дальше. Дождь почти перестал, и на улице снова появились люди. '
            'В конце концов, сказал я себе, никто не знает, чем это кончится, но это не значит, что надо сидеть сложа руки.')
    words = len(page.split())
    assert len(shipped['hyperlex-64k'](page)['input_ids']) < words
    assert len(shipped['hyperlex-128k'](page)['input_ids']) <= len(shipped['hyperlex-64k'](page)['input_ids'])

# --- limits and the shipped configuration ----------------------------------------------------

def test_the_shipped_configuration_names_nothing_that_only_version_5_knows():
    for n in SHIPPED:
        config = json.loads((files('hyperlex_nb')/'assets'/n/'tokenizer_config.json').read_text(encoding='utf-8'))
        assert config['tokenizer_class'] == 'PreTrainedTokenizerFast' and 'extra_special_tokens' not in config and config['additional_special_tokens']

def test_more_characters_than_room_is_an_error_and_no_endless_loop():
    with pytest.raises(ValueError, match='5 single characters must be kept, but only 2'): choose_words(['аб', 'бв', 'вг', 'гд', 'да'], np.full(5, 1000.), 2)
    with pytest.raises(ValueError, match='share'): train_hyperlexemes(TEXTS, 1000, share=.02, least_char=1)

def test_max_types_is_a_bound_even_among_ties():
    types = [a + b for a in 'абвгд' for b in 'еёжзи']
    some = choose_words(types, np.ones(25), 12, least_char=1, max_types=10)
    assert set(''.join(some.text)) <= set(''.join(types[:10]))

@pytest.mark.parametrize('texts', [['а'*100], ['漢'*300]])
def test_texts_without_words_of_a_usual_length_are_refused(texts):
    with pytest.raises(ValueError, match='no words to learn from'): train_hyperlexemes(texts, 1000)
