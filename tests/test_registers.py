"Word lists, features and registers: what is matched, what is denied, what is learned; labels stay in their closed sets; hostile text."
import json, math
from importlib.resources import files
import numpy as np
import pytest
import hyperlex_nb.lexicons as L
import hyperlex_nb.registers as R
from hyperlex_nb.lexicons import LEXICONS, Extension, Vocabulary, embeddings, lexicon
from hyperlex_nb.registers import LABELS, Features, describe, flat, macro_f1, train

needs_vectors = pytest.mark.skipif(embeddings() is None, reason='natasha and navec are not installed')
HOSTILE = ['', ' ', '\n', 'SELECT id FROM t WHERE x > 1;', 'def f(x):\n    return x', '🌲🌲', '👩‍👩‍👧‍👦 семья', 'Дата\tСумма\n12.03\t500', 'Hello, dear friend!', 'Богъ далъ, Богъ и взялъ; вѣчная ему память.', 'нуль\0внутри', '漢字 شعر', 'а', '—', '— Да.\n— Нет.',
           'за\u0301мок е\u0308лка', '\u0301\u0301', 'ё'*1000, '|a|b|\n|-|-|\n|1|2|', '??!!……', '\u2028\ufeff', 'Молоко', 'ъ', 'ъъ ьъ', 'не', 'не не не', 'без']

@pytest.fixture(scope='module')
def gold():
    path = files('hyperlex_nb')/'assets'/'gold'/'scenes.jsonl'
    if not path.is_file(): pytest.skip('the gold set is not here')
    return [json.loads(l) for l in path.read_text('utf-8').splitlines()]

def labels(text, **kw): return flat(next(describe([text], rhythm=False, **kw)))
def denied(text):
    v = Vocabulary(); b = v.read([text])
    return [v.forms[i] for i, no in zip(b.ids, v.negated(b)) if no]

# --- the lists ---------------------------------------------------------------------------------

@pytest.mark.parametrize('name', LEXICONS)
def test_lists_are_well_formed(name):
    lines = (files('hyperlex_nb')/'assets'/'lexicons'/f'{name}.tsv').read_text('utf-8').split('\n')
    assert lines[0] == 'word\tclass' and lines[-1] == ''
    assert len(set(lines)) == len(lines), 'a row twice'
    for line in lines[1:-1]:
        word, label = line.split('\t')
        assert word == word.strip().lower() and label and (name == 'connectives' or ' ' not in word)

def test_classes_are_the_labels():
    assert set(L._classes('emotion')) == set(LABELS['emotion']) and set(L._classes('colour')) == set(LABELS['colour'])
    assert set(L._classes('connectives')) == set(LABELS['logic']) and set(L._classes('axes')) == set(LABELS['philosophical_vector']) - {'none'}
    assert set(L._classes('senses')) == set(LABELS['sense']) - {'none'} and {int(c) for c in L._classes('valence')} == set(LABELS['valence'])

def test_unknown_list():
    with pytest.raises(ValueError, match="lexicon 'smells': expected one of emotion"): lexicon('smells')

@pytest.mark.parametrize('form, name, classes', [('Тоскою', 'emotion', {'sadness'}), ('зарыдали', 'emotion', {'sadness'}), ('горе', 'emotion', {'sadness'}), ('ласково', 'emotion', {'joy'}), ('белые', 'colour', {'white'}), ('жёлтая', 'colour', {'yellow'}), ('ЗЕЛЕНЕЛИ', 'colour', {'green'}),
                                                  ('черна\u0301я', 'colour', {'black'}), ('бѣлый', 'colour', {'white'}), ('стол', 'emotion', set()), ('hello', 'emotion', set())])
def test_matched(form, name, classes):
    v = Vocabulary(); v.ids([form])
    assert {c for c, x in zip(L._classes(name), v.marked(name)[0]) if x} == classes

def test_vocabulary_analyses_once(monkeypatch):
    seen, real = [], L._read
    monkeypatch.setattr(L, '_read', lambda w: seen.append(w) or real(w))
    v = Vocabulary(); ids = v.ids(['Мама', 'мама', 'МАМА', 'мыла', 'мама'])
    assert ids.tolist() == [0, 0, 0, 1, 0] and seen == ['мама', 'мыла']
    v.ids(['мыла', 'раму']); assert seen == ['мама', 'мыла', 'раму'] and len(v) == 3

def test_read_and_totals():
    v = Vocabulary(); b = v.read(['Весело, смех.', '', 'Смех! Смех'])
    assert b.starts.tolist() == [0, 2, 2, 4] and b.gaps.tolist() == [2, 1, 2, 2]
    joy = b.totals(v.marked('emotion'))[:, L._classes('emotion').index('joy')]
    assert joy.tolist() == [2, 0, 2]
    assert b.totals(v.marked('emotion'), np.zeros(4)).sum() == 0
    empty = Vocabulary().read([])
    assert len(empty.ids) == 0 and empty.starts.tolist() == [0]

# --- negation ----------------------------------------------------------------------------------

@pytest.mark.parametrize('text, words', [('ничто не радует', ['радует']), ('он не очень рад', ['очень', 'рад']), ('без всякой радости', ['всякой', 'радости']), ('не только радость', []), ('не знаю, но страшно', ['знаю']), ('чуть не заплакал', []), ('нельзя не любить', ['не']), ('не. Страшно', []),
                                         ('радость', []), ('', []), ('не', []), ('страшно не', [])])
def test_negated(text, words): assert denied(text) == words

def test_negation_stays_in_its_text():
    v = Vocabulary(); b = v.read(['он не', 'радуется'])
    assert not v.negated(b)[b.starts[1]:].any()

def test_negation_moves_the_feeling():
    f = Features(stretch=False)
    X, _, _ = f(['он радуется', 'он не радуется'])
    assert X['emotion: joy'].tolist() == [.5, 0] and X['not emotion: joy'][1] > 0 == X['not emotion: joy'][0]

# --- embeddings --------------------------------------------------------------------------------

@needs_vectors
def test_extension():
    ext = Extension('emotion')
    s = ext(['ужас', 'карнавал', 'ыыыыыы', ''])
    assert s[0].tolist() == [c == 'fear' for c in ext.classes], 'a listed word keeps its class'
    assert ext.classes[s[1].argmax()] == 'joy' and not s[2:].any() and s.min() >= 0 and s.max() <= 1
    assert (ext(['ужас', 'карнавал']) == Extension('emotion')(['ужас', 'карнавал'])).all()

@needs_vectors
def test_held_out_beats_the_majority_and_shuffled_labels_do_not():
    ext = Extension('senses')
    right = lambda e: np.mean(e.Y[np.arange(len(e.Y)), e.held_out()[0].argmax(1)] > 0)
    majority = (ext.Y > 0).mean(0).max()
    assert right(ext) > majority + .2
    ext.Y = ext.Y[np.random.default_rng(0).permutation(len(ext.Y))]
    assert right(ext) < majority + .1, 'the folds leak'

@needs_vectors
def test_stretched_tries_the_form():
    v = Vocabulary(); v.ids(['радости', 'ыыыы'])
    out = v.stretched(Extension('emotion'))
    assert out[0].any() and not out[1].any()

def test_without_embeddings(monkeypatch):
    monkeypatch.setattr(R, 'embeddings', lambda: None)
    d = next(describe(['Если пойдёт снег, поезд не придёт.'], rhythm=False))
    assert flat(d)['logic'] == 'condition'
    monkeypatch.setattr(L, 'embeddings', lambda: None)
    assert Extension('emotion')(['ужас', 'карнавал']).sum() == 1

# --- features ----------------------------------------------------------------------------------

def test_features_do_not_depend_on_the_batch(gold):
    texts = [g['text'] for g in gold[:12]] + ['', 'слово']
    together, M, _ = Features(stretch=False)(texts)
    f = Features(stretch=False)
    for i, t in list(enumerate(texts))[::-1]:
        alone, _, _ = f([t])
        for k in together: assert math.isclose(alone[k][0], together[k][i], rel_tol=1e-4, abs_tol=1e-6), (k, t)

def test_memory_is_bounded():
    f = Features(stretch=False, limit=50)
    for i in range(20): f([' '.join('слово' + 'абвгдежзик'[j] + 'лмнопрстуфхцчшщэюя'[i % 18] for j in range(10))])
    assert len(f.vocabulary) <= 60 and f.rows.n == len(f.vocabulary)
    before = {k: v.tolist() for k, v in Features(stretch=False)(['Он пел.'])[0].items()}
    assert before == {k: v.tolist() for k, v in f(['Он пел.'])[0].items()}

def test_longer_connective_hides_the_shorter():
    v = Vocabulary(); b = v.read(['потому что дождь', 'потом дождь', 'чем дальше, тем лучше'])
    n = dict(zip(L._classes('connectives'), R._phrases(b, v).T))
    assert n['cause'][0] == 1 and n['sequence'].tolist()[:2] == [0, 1] and n['comparison'][2] >= 1

@pytest.mark.parametrize('name, yes, no', [('thing lives', 'Ветер плакал за окном', 'Мальчик плакал за окном'), ('anaphora', 'Здесь лес, здесь река', 'Здесь лес, там река'), (', как', 'Снег, как сахар', 'Как дела'), ('word repeated', 'Молчал лес, молчала река', 'Молчал лес, спала река')])
def test_between(name, yes, no):
    X = Features(stretch=False)([yes, no])[0][name]
    assert X[0] > 0 == X[1]

# --- models ------------------------------------------------------------------------------------

def test_macro_f1():
    y = np.array([0, 0, 1, 2])
    assert macro_f1(y, y, 3) == 1 and macro_f1(y, y, 9) == 1, 'classes that occur nowhere do not count'
    assert math.isclose(macro_f1(y, np.zeros(4, int), 3), (2*2/6)/3)

def test_fit_finds_what_is_there_and_turns_with_the_axes():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(60, 100)); y = (A[:, 0] > 0).astype(int) + (A[:, 0] > 1)
    W = R._fit(A, y, 3, 1., False)
    assert W.shape == (101, 3) and ((A @ W[:-1] + W[-1]).argmax(1) == y).mean() > .95
    Q = np.linalg.qr(rng.normal(size=(100, 100)))[0]
    V = R._fit(A @ Q, y, 3, 1., False)
    np.testing.assert_allclose(A @ Q @ V[:-1] + V[-1], A @ W[:-1] + W[-1], atol=.05)

def test_train_is_deterministic_and_makes_json(gold):
    dev = [g for g in gold if g['split'] == 'dev'][:60]
    texts, rows, menu = [g['text'] for g in dev], [g['labels'] for g in dev], [('own', 30, True)]
    a, b = (train(texts, rows, Features(stretch=False), menu) for _ in range(2))
    assert json.dumps(a) == json.dumps(b) and set(a) == {k for k in LABELS if k not in ('colour', 'poetry', 'rhythm')} | set(LABELS['poetry'])

def test_labels_of_the_gold_set_are_learned(gold):
    test = [g for g in gold if g['split'] == 'test']
    found = [flat(d) for d in describe([g['text'] for g in test], rhythm=False)]
    for label, least in dict(logic=.5, function=.6, image=.6, sense=.6, colour=.8, emotion=.3).items():
        assert np.mean([f[label] == g['labels'][label] for f, g in zip(found, test)]) > least, label

def test_shuffled_labels_teach_nothing(gold):
    dev = [g for g in gold if g['split'] == 'dev']; rng = np.random.default_rng(0)
    f = Features(stretch=False)
    m = train([g['text'] for g in dev], [dev[i]['labels'] for i in rng.permutation(len(dev))], f, [('own', 30, True)])
    assert m['logic']['cv'] < .35 and m['function']['cv'] < .4

# --- describe ----------------------------------------------------------------------------------

@pytest.mark.parametrize('stretch', [False, pytest.param(True, marks=needs_vectors)])
def test_hostile(stretch):
    found = list(describe(HOSTILE, rhythm=False, stretch=stretch))
    assert len(found) == len(HOSTILE)
    for d in found:
        assert json.loads(json.dumps(d, allow_nan=False)) == d
        for k, v in flat(d).items():
            if k != 'rhythm': assert set(v if isinstance(v, list) else [v]) <= set(LABELS[k]), (k, v)
        assert set(d) == {'registers', 'layers'} and set(d['registers']) == {'logic', 'emotion', 'image', 'function'} and set(d['layers']) == {'rhythm', 'colour', 'philosophical_vector', 'poetry'}

def test_rhythm_is_optional():
    pytest.importorskip('silero_stress', reason='silero-stress is not installed')
    verse = 'Мороз сковал глухой залив,\nи лодки спят у старой дамбы,\nа ветер, голову склонив,\nслагает медленные ямбы.'
    assert flat(next(describe([verse])))['rhythm'] == 'iamb' and flat(next(describe([verse], rhythm=False)))['rhythm'] is None

@pytest.mark.parametrize('text, colours', [('Белые облака и рыжий кот', ['white', 'orange']), ('чёрный рынок, белый гриб, Красное море', []), ('золотая медаль', []), ('золотистая медаль', ['gold']), ('не белый, а серый', ['white', 'grey']), ('Небо голубеет, трава зеленеет', ['green', 'blue']),
                                           ('чёрный. Рынок', ['black']), ('чёрный, рынок', ['black']), ('сереброокий бело-розовый', [])])
def test_colours(text, colours): assert labels(text)['colour'] == colours

@pytest.mark.parametrize('label, value, text', [('logic', 'condition', 'Если пойдёт снег, поезд не придёт.'), ('logic', 'cause', 'Мост размыло, поэтому автобусы пошли в объезд, потому что другой дороги нет.'), ('function', 'dialogue', '— Ты где?\n— Дома.\n— Один?\n— С котом.'), ('function', 'appeal', 'Закройте окно и положите ключ на полку. Не забудьте полить цветы!'),
                                                 ('image', 'abstract', 'Свобода предполагает ответственность, а необходимость не отменяет выбора и долга.'), ('sense', 'sound', 'Скрипнула дверь, за стеной зашумело, залаяла собака, и раздался крик.'), ('sense', 'smell_taste', 'Пахло дымом, яблоками и горькой полынью, вкус мёда был сладкий.')])
def test_plain_cases(label, value, text): assert labels(text)[label] == value

def test_generator_is_lazy_and_batches_do_not_matter(gold):
    def endless():
        while True: yield 'Если пойдёт снег, поезд не придёт. '*50
    assert flat(next(describe(endless(), rhythm=False)))['logic'] == 'condition'
    texts = [g['text'] for g in gold[:20]]
    assert list(describe(texts, rhythm=False)) == [next(describe([t], rhythm=False)) for t in texts]
    assert list(describe([])) == []

def test_bad_input():
    with pytest.raises(ValueError, match='text 1 has a lone surrogate'): list(describe(['да', 'пло\ud83dхо'], rhythm=False))
    with pytest.raises(TypeError, match=r'pass \[text\]'): list(describe('да'))
    with pytest.raises(TypeError, match='text 0 is NoneType'): list(describe([None]))

def test_a_long_paragraph_is_read_from_its_start(monkeypatch):
    seen, real = [], Vocabulary.read
    monkeypatch.setattr(Vocabulary, 'read', lambda v, texts: seen.extend(map(len, texts)) or real(v, texts))
    d = next(describe(['Мороз крепчал, и снег скрипел. '*330_000], rhythm=False))
    assert seen == [100_000] and flat(d)['image'] in LABELS['image']
    assert flat(d) == labels('Мороз крепчал, и снег скрипел. '*20_000)
