"The segmenter: lossless on anything, the same in any batch, clear about missing or damaged weights."
import os, re, unicodedata
from importlib.resources import files
from pathlib import Path
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from hyperlex_nb.grams import Grams, Lexicon, Relatives, by_length, encode_letters, nearest_others, _spread, _pack, _unpack
from hyperlex_nb.morphology import Morpheme, Segmenter, grade
from hyperlex_nb.tagger import KINDS, Tagger, decode, labels, train

WEIGHTS = Path(str(files('hyperlex_nb')))/'assets'/'morphemes'/'tagger.safetensors'
WORDS = ('переписывание безработица учительница загуглить самоучка водопад перечитывая кое-что пылесосный ёжик Москва дом '
         'непредсказуемость подоконниками вылетевшего рисуешь столами научно-исследовательский ы я').split()

@pytest.fixture(scope='module')
def seg(): return Segmenter()

def seg_text(ms): return ''.join(m.text for m in ms)

# --- lossless ---------------------------------------------------------------------------------

HOSTILE = ['', ' ', '\n', '\0', '-', '--', '-дом-', 'дом-', '‑', 'а‑б‐в', "об'єкт", 'їжак', 'ўсё', 'за́мок', 'и\u0306од', 'е\u0308ж', '\u0301', '\u0301дом', 'д\u0301\u0302ом',
           'сло\u00adво', 'сло\u200bво', 'дом\ufe0f', '👩‍👩‍👧‍👦', '🇷🇺дом', '5-летний', '3D-принтер', 'iPhone’ом', 'COVID', 'Zнак', 'دار', '漢字', 'İstanbul', 'ß', 'ſлово', '\ud83d', 'до\udcffм', '\U0010ffff',
           'два слова', 'с\tтабом', 'МоСкВа', 'ЁЖ', 'ё' * 65, 'перевыборы' * 300, '-' * 500, 'а-' * 200, 'я' * 64, 'я' * 63 + '\u0301', 'ѣръ', 'Ѳома', '1234567890', '!?…']

@pytest.mark.parametrize('word', HOSTILE, ids=lambda w: ascii(w[:12]))
def test_hostile_strings_survive(seg, word):
    ms, = seg.segment([word])
    assert seg_text(ms) == word and all(m.text and m.kind in KINDS for m in ms)

@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=30), max_size=8))
def test_any_unicode_is_given_back(words):
    for w, ms in zip(words, once().segment(words), strict=True): assert seg_text(ms) == w and all(m.text for m in ms)

@settings(max_examples=150, deadline=None)
@given(st.lists(st.text('абвгеёийклмнопрстуыьяАЁ-\u0301\u0306\u20110a ', max_size=40), max_size=8))
def test_near_russian_is_given_back(words):
    for w, ms in zip(words, once().segment(words), strict=True): assert seg_text(ms) == w

_once = []
def once():
    if not _once: _once.append(Segmenter(cache=100))
    return _once[0]

def test_case_yo_and_marks_are_kept_and_change_nothing(seg):
    for w in ('ёлочка', 'перевыборы', 'чтение'):
        sizes = [len(m.text) for m in seg.segment([w])[0]]
        for other in (w.upper(), w.title(), w.replace('ё', 'е')):
            ms, = seg.segment([other])
            assert seg_text(ms) == other and [len(m.text) for m in ms] == sizes
    stressed, bare = seg.segment(['перевы\u0301боры', 'перевыборы'])
    assert [m.kind for m in stressed] == [m.kind for m in bare]
    assert [unicodedata.normalize('NFC', m.text.replace('\u0301', '')) for m in stressed] == [m.text for m in bare]

def test_a_decomposed_letter_is_read_as_the_letter(seg):
    a, b = seg.segment(['чайный', unicodedata.normalize('NFD', 'чайный')])
    assert [unicodedata.normalize('NFC', m.text) for m in b] == [m.text for m in a]

# --- known words ------------------------------------------------------------------------------

@pytest.mark.parametrize('cuts', ['загуглить=за:PREF гугл:ROOT и:SUFF ть:SUFF', 'столами=стол:ROOT ами:END', 'водопад=вод:ROOT о:LINK пад:ROOT',
                                  'учительница=уч:ROOT и:SUFF тель:SUFF ниц:SUFF а:END', 'читаться=чит:ROOT а:SUFF ть:SUFF ся:POSTFIX', 'дом=дом:ROOT', 'вагон-ресторан=вагон:ROOT -:HYPH ресторан:ROOT'])
def test_known_words(seg, cuts):
    word, parts = cuts.split('=')
    assert seg.segment([word]) == [[Morpheme(*p.split(':')) for p in parts.split()]]

def test_morphotactics(seg):
    "No word begins with an ending or a suffix that follows nothing; a postfix is last"
    rng = np.random.default_rng(0)
    words = [''.join(rng.choice(list('абвгдеиклмнопрстуя'), n)) for n in rng.integers(1, 15, 500)]
    for ms in seg.segment(words):
        assert ms[0].kind in ('PREF', 'ROOT') and any(m.kind == 'ROOT' for m in ms)
        assert all(m.kind != 'POSTFIX' for m in ms[:-1])

# --- batches, cache, bad input -----------------------------------------------------------------

def test_batches_change_nothing(seg):
    alone = [once().segment([w])[0] for w in WORDS]
    assert Segmenter().segment(WORDS) == alone
    assert Segmenter().segment(WORDS[::-1]) == alone[::-1]
    assert seg.segment(WORDS + WORDS) == alone + alone
    assert seg.segment(iter(WORDS)) == alone
    assert seg.segment([]) == [] and seg.segment(['']) == [[]]

def test_the_cache_is_bounded_and_its_answers_are_safe():
    small = Segmenter(cache=5)
    got = small.segment(WORDS)
    assert len(small.known) <= 5
    small.segment([WORDS[0]])[0].append('spoilt')
    assert small.segment(WORDS) == got and len(small.known) <= 5
    none = Segmenter(cache=0)
    assert none.segment(WORDS) == got and not none.known

@pytest.mark.parametrize('bad, say', [('слово', 'pass'), (b'x', 'pass'), (['дом', None], 'NoneType'), ([1], 'int'), ([['дом']], 'list')])
def test_bad_words_are_refused(seg, bad, say):
    with pytest.raises(TypeError, match=say): seg.segment(bad)

@pytest.mark.parametrize('cache', [-1, None, 2.5, True])
def test_a_cache_of_no_size_is_refused(cache):
    with pytest.raises(ValueError, match='cache'): Segmenter(cache=cache)

def test_grades_of_words_without_borders_and_of_wrong_groups():
    house = [[Morpheme('дом', 'ROOT')]]
    assert {k: v[0] for k, v in grade(house, house).items()} == dict(accuracy=1, exact=1, f1=1)
    with pytest.raises(ValueError, match='2 groups for 1 words'): grade(house, house, ['дом', 'сад'])

@pytest.mark.parametrize('spoil', [lambda b: b[:1000], lambda b: b[:len(b)//2], lambda b: b'', lambda b: b'{}' * 50, lambda b: b[:8] + b'x' * 100 + b[108:]])
def test_damaged_weights_give_one_clear_error(tmp_path, spoil):
    path = tmp_path/'tagger.safetensors'
    path.write_bytes(spoil(WEIGHTS.read_bytes()))
    with pytest.raises(ValueError, match=r'tagger.safetensors.*damaged.*hyperlex run') as e: Segmenter(path)
    assert e.value.__cause__ is None

def test_missing_weights_give_one_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nothing.safetensors.*missing.*hyperlex run'): Segmenter(tmp_path/'nothing.safetensors')
    with pytest.raises(FileNotFoundError, match='missing'): Segmenter(tmp_path)

def test_foreign_weights_are_refused(tmp_path):
    from safetensors.torch import save_file
    save_file({'w': torch.zeros(3)}, tmp_path/'other.safetensors')
    with pytest.raises(ValueError, match='not a tagger'): Segmenter(tmp_path/'other.safetensors')

def test_weights_are_small_and_shipped():
    assert WEIGHTS.stat().st_size <= 5_000_000
    root = Path(__file__).resolve().parent.parent
    if (root/'MANIFEST.in').exists(): assert 'graft hyperlex_nb/assets' in (root/'MANIFEST.in').read_text()

# --- the parts --------------------------------------------------------------------------------

TAUGHT = ['за:PREF/пис:ROOT/а:SUFF/ть:SUFF', 'чит:ROOT/а:SUFF/тель:SUFF', 'пере:PREF/чит:ROOT/а:SUFF/ть:SUFF/ся:POSTFIX', 'пис:ROOT/а:SUFF/тель:SUFF']

def toy(extra=()):
    words = [re.sub(':[A-Z]+|/', '', s) for s in TAUGHT] + [w for w, _ in extra]
    known = dict(zip(words, map(labels, TAUGHT)))
    tagger = Tagger(Grams.of(words, least=1), Lexicon.of(words, []), Relatives.of(known), width=32, hidden=32, layers=2)
    tagger.learn_legal([labels(s) for s in TAUGHT], least=1)
    return tagger, words, nearest_others(words, words, known)

def test_training_learns_by_heart_repeats_and_saves(tmp_path):
    made = []
    for k in range(2):
        torch.manual_seed(0)
        tagger, words, near = toy([('зачитать', 0)])
        train(tagger, words, [labels(s) for s in TAUGHT] + [labels('за/чит/а/ть')], near, epochs=150, lr=1e-2)
        tagger.save(tmp_path/f'{k}.safetensors')
        made.append((tmp_path/f'{k}.safetensors').read_bytes())
    assert made[0] == made[1]
    seg = Segmenter(tmp_path/'0.safetensors')
    for s, ms in zip(TAUGHT, seg.segment(words)): assert '/'.join(f'{m.text}:{m.kind}' for m in ms) == s
    assert [m.text for m in seg.segment(['зачитать'])[0]] == ['за', 'чит', 'а', 'ть']

def test_soft_targets_teach_as_labels_do():
    torch.manual_seed(0)
    tagger, words, near = toy()
    soft = [np.eye(14, dtype=np.float16)[labels(s)] for s in TAUGHT]
    train(tagger, words, soft, near, epochs=150, lr=1e-2)
    for w, s in zip(words, TAUGHT): assert decode(tagger(encode_letters([w])).float(), tagger.legal)[0].tolist() == labels(s)

@pytest.mark.parametrize('words, targets, say', [([], [], 'at least one'), (['мир'], [], '1 words, 0 targets and 1 relatives'), (['мир'], [labels('за/мир')], "'мир' has 5 labels"), ([''], [[]], "''")])
def test_bad_targets_are_refused(words, targets, say):
    with pytest.raises(ValueError, match=say): train(toy()[0], words, targets, np.zeros((len(words), 4), np.int64))

@pytest.mark.parametrize('bad', ['', 'а//б', 'дом:FOO', '/дом', 'дом:ROOT/'])
def test_bad_cuts_are_refused(bad):
    with pytest.raises(ValueError, match='no segmentation'): labels(bad)

@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 5000)))
def test_packed_numbers_come_back(numbers):
    x = torch.tensor(sorted(numbers), dtype=torch.long)
    assert _unpack(_pack(x)).tolist() == x.tolist()

def test_lexicon_has_its_members_and_few_others():
    members = ['слово', 'дом', 'водопад', 'перевыборы']
    lex = Lexicon.of(members, members)
    assert all(lex(encode_letters([w]))[0, 0, 6] for w in members)
    rng = np.random.default_rng(0)
    assert lex(encode_letters([''.join(w) for w in rng.choice(list('абвгдежз'), (2000, 7))]))[:, 0, 6].sum() == 0

def test_unseen_grams_have_row_zero():
    grams = Grams.of(['читать', 'читатель'], least=1)
    assert (grams(encode_letters(['читать'])) > 0).float().mean() > .97 # two of them may want one slot
    assert (grams(encode_letters(['жщъэюф']))[0, 1:-1] > 0).float().mean() < .02

def test_relatives_agree_with_an_exact_search():
    known = {re.sub(':[A-Z]+|/', '', s): labels(s) for s in TAUGHT}
    words = ['читать', 'писатели', 'зачитаться', 'перечитаться', 'ы', 'я', 'телефон', 'незнакомка']
    exact = nearest_others(words, [None] * len(words), known)
    hashed = Relatives.of(known)
    for w, row in zip(words, exact.tolist()): assert hashed.nearest(encode_letters([w]))[0].tolist() == row, w

def test_a_word_is_no_relative_of_itself():
    known = {re.sub(':[A-Z]+|/', '', s): labels(s) for s in TAUGHT}
    alone, others = (nearest_others(list(known), skips, known) for skips in ([None] * len(known), list(known)))
    assert [min(16, len(w)) for w in known] == alone[:, 0].tolist() and (others[:, 0] < alone[:, 0]).all()

def test_what_relatives_say_is_spread_over_the_gaps():
    x = _spread(torch.tensor([[3, 0b101, 0, 0], [0, 0, 4, 0b1000]]), 5)
    assert x[0, :, 0].tolist() == [0, 1, -1, 1, 0] and x[0, :, 1].tolist() == [0, 0, 0, 1, 0] and not x[0, :, 3].any()
    assert x[1, :, 3].tolist() == [0, 1, -1, -1, -1] and x[1, :, 4].tolist() == [0, 1, 0, 0, 0]

def test_decode_is_legal_and_best():
    from itertools import product
    torch.manual_seed(0)
    tagger, *_ = toy()
    x = torch.randn(8, 4, 14)
    ban = torch.where(torch.rand(15, 15) < .4, -1e4, 0.); ban[torch.arange(14), torch.arange(14)] = 0; ban[14] = 0; ban[:, 14] = 0
    for logits, got in zip(x, decode(x, ban == 0).tolist()):
        def worth(p): return sum(logits[i, v].item() for i, v in enumerate(p)) + sum(ban[a, b].item() for a, b in zip(p, p[1:]))
        some = [tuple(p) for p in np.random.default_rng(0).integers(0, 14, (2000, 4))]
        assert worth(got) >= max(map(worth, some)) and worth(got) > -1e3

# --- grading ----------------------------------------------------------------------------------

def M(s): return [Morpheme(*p.split(':')) if ':' in p else Morpheme(p, '') for p in s.split('/')]

def test_grade_by_hand():
    gold = [M('по:PREF/сад:ROOT/к:SUFF/а:END'), M('дом:ROOT')]
    got = [M('по:PREF/садк:ROOT/а:END'), M('дом:ROOT')]
    g = grade(got, gold)
    assert g['accuracy'][0] == g['exact'][0] == .5 and g['f1'][0] == pytest.approx(2*2/(2 + 3))
    assert all(low <= v <= high for v, low, high in g.values())
    assert grade(gold, gold)['accuracy'] == (1, 1, 1)

def test_grade_refuses_what_cannot_be_compared():
    with pytest.raises(ValueError, match='no words'): grade([], [])
    with pytest.raises(ValueError, match='two different words'): grade([M('дом:ROOT')], [M('сад:ROOT')])
    with pytest.raises(ValueError): grade([M('дом:ROOT')], [])

def test_groups_widen_the_interval():
    gold, got = [M('дом:ROOT')] * 200, ([M('дом:ROOT')] * 10 + [M('д:PREF/ом:ROOT')] * 10) * 10
    alone, together = (grade(got, gold, groups)['exact'] for groups in (None, np.repeat(np.arange(20), 10)))
    assert alone[0] == together[0] == .5 and together[2] - together[1] > 2 * (alone[2] - alone[1])
