"Saturation of a topic: known sources found again, exact averages over orders, intervals that cover, one error for what cannot be measured."
import json, math, random
from itertools import permutations

import numpy as np
import pytest

from hyperlex_nb import charbits, novelty, saturation as sat
from hyperlex_nb.saturation import THRESHOLDS, growth
from hyperlex_nb.sources import documents


def word(i, letters='abcdefghijklmnopqrstuvwxyz'):
    "A word for each number; Latin, which the analyser answers at once"
    out = ''
    while True:
        i, r = divmod(int(i), 26)
        out += letters[r]
        if not i: return out


def drawn(p, docs, length, seed):
    "Documents of independent words of probabilities p"
    rng = np.random.default_rng(seed)
    return [' '.join(map(word, rng.choice(len(p), length, p=p))) for _ in range(docs)]


def zipf(size, s=1., shift=2.7):
    p = (np.arange(size) + shift)**-s
    return p/p.sum()


def unseen(p, n): return float((p*(1 - p)**n).sum())
def distinct(p, n): return float((1 - (1 - p)**n).sum())


@pytest.fixture(scope='module')
def texts(): return [d['text'] for d in documents('opencorpora', limit=260)]


@pytest.fixture(scope='module')
def found(texts): return growth(texts, bits=2e5, halves=20)


def test_expectations_are_averages_over_all_orders():
    toy = [list(t) for t in ('abca', 'ab', 'cd', 'da', 'ee')]
    letters = sorted({x for t in toy for x in t})
    f, w = (np.array([g(x) for x in letters]) for g in (lambda x: sum(x in t for t in toy), lambda x: sum(t.count(x) for t in toy)))
    V, new, r = novelty._expected(f, w, 5, np.arange(1, 5))
    orders = list(permutations(toy))
    for m in range(1, 5):
        seen = [set(sum(o[:m], [])) for o in orders]
        assert math.isclose(V[m - 1], np.mean([len(s) for s in seen]))
        assert math.isclose(new[m - 1], np.mean([len(set(o[m]) - s) for o, s in zip(orders, seen)]))
        assert math.isclose(r[m - 1], np.mean([sum(x not in s for x in o[m]) for o, s in zip(orders, seen)])/(sum(w)/5))


def test_incidences_inside_any_set_of_documents():
    rng = np.random.default_rng(0)
    key, doc = rng.integers(0, 50, 2000), np.sort(rng.integers(0, 30, 2000))
    items, keep = novelty._Items(key, doc), rng.random(30) < .5
    f, w = items.within(keep)
    k, d = key[keep[doc]], doc[keep[doc]]
    assert sorted(zip(f, w)) == sorted((len(set(d[k == i])), (k == i).sum()) for i in set(k))


@pytest.mark.parametrize('s, c', [(.3, 50.), (.9, 1e4), (1.5, 2e4), (0., 1.)])
def test_a_bent_power_is_found_again(s, c):
    n = np.geomspace(100, 1e5, 60)
    fit = novelty._bend(n, np.exp(novelty._bent((0., s, c), n)))
    for x in (2e5, 1e6): assert abs(novelty._bent(fit, x) - novelty._bent((0., s, c), x)) < .05


@pytest.mark.parametrize('beta', [.5, .7])
def test_heaps_exponent_of_a_power_law_source(beta):
    "Independent words with p ~ rank^(-1/beta) have V ~ n^beta"
    g = growth(drawn(zipf(400_000, 1/beta, 1), 200, 150, 0), bits=0, halves=10)
    assert abs(g.heaps['words'][1].value - beta) < .04


@pytest.mark.parametrize('p, times', [(zipf(3000), 3), (zipf(100_000, 1.3), 20), (zipf(200_000, 1.6, 1), 8)], ids=['finite', 'broad', 'steep'])
def test_a_known_source_beyond_the_sample(p, times):
    g = growth(drawn(p, 150, 120, 1), bits=0, halves=20)
    n = times*g.words
    for measure, truth in (('words', unseen(p, n)), ('distinct words', distinct(p, n))):
        e = g.at(measure, n)
        assert e.low <= truth <= e.high, (measure, e, truth)
        assert abs(math.log(e.value/truth)) < .6


def test_a_finite_vocabulary_ends():
    p = zipf(3000)
    g = growth(drawn(p, 150, 120, 1), bits=0, halves=20)
    e = g.at('distinct words', 50*g.words)
    assert e.low < 3000 < e.high and abs(e.value/3000 - 1) < .1 and g['distinct words'].bend[1] > 1 and 'has an end' in str(g)
    assert g.until('words').words.low < g.words*10


def test_intervals_cover_known_sources():
    hits, n = 0, 0
    for seed in range(12):
        p = zipf(20_000, 1 + .1*(seed % 4))
        g = growth(drawn(p, 60, 100, seed), bits=0, halves=10, seed=seed)
        for x in (g.words/2, 4*g.words):
            for measure, truth in (('words', unseen(p, x)), ('distinct words', distinct(p, x))):
                e = g.at(measure, x)
                hits, n = hits + (e.low <= truth <= e.high), n + 1
    assert hits/n > .85


def test_a_shelf_read_over_and_over_is_saturated():
    rng = random.Random(0)
    shelf = [' '.join(word(rng.randrange(500)) for _ in range(12)) + '.' for _ in range(50)]
    g = growth([' '.join(rng.choice(shelf) for _ in range(8)) for _ in range(200)], bits=1e5)
    for m in ('words', 'bigrams', 'trigrams'):
        u = g.until(m, .02)
        assert u.words.high < g.words and u.possible == 1, m
    assert g.at('distinct words', 100*g.words).value < 520
    assert g.curves['bits'].value[-1] < .05
    json.dumps(g.as_dict(), allow_nan=False)


def test_an_endless_source_is_never_saturated():
    rng = random.Random(0)
    g = growth([' '.join(word(rng.randrange(10**12)) for _ in range(60)) for _ in range(120)], bits=0, halves=10)
    u = g.until('words')
    assert u.words is None and u.possible == 0 and u.at_least > 90*g.words and 'not within 100 times' in str(u)
    assert g.heaps['words'][1].value > .97


def test_the_order_of_documents_is_of_no_account(texts, found):
    again = growth(iter(texts[::-1]), bits=2e5, halves=20)
    assert json.dumps(again.as_dict()) == json.dumps(found.as_dict())


def test_the_seed_moves_intervals_and_nothing_else(texts, found):
    other = growth(texts, bits=0, halves=20, seed=1)
    assert (other['facts'].value == found['facts'].value).all() and (other['facts'].low != found['facts'].low).any()
    assert abs(math.log(other.at('facts', 10*other.words).high/found.at('facts', 10*found.words).high)) < .3


def test_real_text(found):
    beta = {k: found.heaps[k][1] for k in ('words', 'lemmas')}
    assert .4 < beta['lemmas'].value < beta['words'].value < .9 and all(b.low < b.value < b.high for b in beta.values())
    now = {m: found.at(m, found['words'].inside).value for m in THRESHOLDS if m != 'bits'}
    assert now['lemmas'] < now['words'] < now['bigrams'] < now['trigrams'] < 1
    for m, c in found.curves.items():
        assert (np.diff(c.value)*(1 if 'distinct' in m else -1) >= -1e-9*c.value[1:]).all() and (c.low <= c.value).all() and (c.value <= c.high).all(), m
        if 'distinct' not in m: assert c.high.max() <= 1.0000001
        k = np.searchsorted(c.words, c.inside)
        assert np.log(c.high/c.low)[-1] > np.log(c.high/c.low)[k], m
    assert all(abs(found[m].error) < .2 for m in ('words', 'lemmas', 'bigrams', 'trigrams', 'facts', 'distinct words'))
    assert (np.diff(found.bpb['value']) < 0).all() and .5 < found.bpb['value'][-1] < 4


def test_until_and_at_agree(found):
    for m in THRESHOLDS:
        level = float(np.interp(math.log(3*found.words), np.log(found[m].words), found[m].value))
        u = found.until(m, level)
        assert math.isclose(u.best, 3*found.words, rel_tol=.1)
        if u.words:
            assert (u.pages.unit, u.bytes.unit) == ('page', 'byte') and u.words.low <= u.words.value <= u.words.high
            assert math.isclose(u.pages.value, u.words.value*found.chars/found.words/1800)
    now, later = (found.until('words', found.at('words', x*found.words).value) for x in (.2, .8))
    assert now.best < later.best < found.words


def test_json_is_finite_and_the_text_says_it_all(found):
    told = json.loads(json.dumps(found.as_dict(dict(words=1e-6)), allow_nan=False))
    assert told['until']['words']['words'] is None and told['until']['words']['at_least'] > found.words and told['until']['words']['threshold'] == 1e-6
    assert set(told['until']) == set(THRESHOLDS) and 'at least' in str(found) and 'beta' in str(found)


def test_copies_are_dropped_and_counted(texts, found):
    g = growth(texts + [' ' + t.replace(' ', '  ') + '\n' for t in texts[:50]] + ['', '12 34', ' \n'], bits=0, halves=20)
    assert g.notes[:2] == ['50 exact copies were dropped', '3 documents without words were dropped']
    assert g.words == found.words and (g['facts'].value == found['facts'].value).all()


def test_the_limit_leaves_out_at_random_and_says_so(texts):
    g = growth(texts, limit=2e5, bits=0, halves=4)
    assert g.chars <= 2e5 and any('left out, at random' in n for n in g.notes)
    assert json.dumps(growth(sorted(texts), limit=2e5, bits=0, halves=4).as_dict()) == json.dumps(g.as_dict())


def test_dicts_and_strings_are_the_same(texts, found):
    assert (growth([dict(text=t) for t in texts], bits=0, halves=4)['words'].value == found['words'].value).all()


def test_hostile_unicode(texts):
    odd = ['\ud83d\udd25 \ud800 а\u0301 ' + t for t in texts[:40]] + ['e\u0301' * 500 + ' \u202eслово ' + t for t in texts[40:80]] + ['\0\0\0 \U0001f468\u200d\U0001f469 ' + t for t in texts[80:120]]
    g = growth(odd, bits=5e4, halves=4)
    assert g.documents == 120 and np.isfinite(g['bits'].value).all()
    json.dumps(g.as_dict(), allow_nan=False).encode()


def test_other_languages_and_giants_are_noted():
    g = growth(drawn(zipf(3000), 60, 120, 0), bits=0, halves=4)
    assert any('Cyrillic' in n for n in g.notes) and 'too few facts to measure' in g.notes and 'facts' not in g.curves
    g = growth([*drawn(zipf(3000), 30, 200, 0), *drawn(zipf(3000), 1, 5000, 1)], bits=0, halves=4)
    assert any('one document holds' in n for n in g.notes)


def test_the_smallest_samples_are_measured_or_refused():
    g = growth(drawn(zipf(3000), 10, 500, 0))
    assert g.documents == 10 and {'words', 'trigrams'} <= set(g.curves) and g['words'].high[-1] > 2*g['words'].low[-1]
    g = growth(['. '.join(t.split()) for t in drawn(zipf(3000), 20, 300, 0)], bits=100)
    assert 'too few bigrams to measure' in g.notes and 'no bits measured: bits=100' in g.notes and set(g.as_dict()['until']) == {'words', 'lemmas'}
    str(g)
    with pytest.raises(ValueError, match='one of 21 documents holds nearly all words'): growth([word(7 + i) for i in range(20)] + drawn(zipf(3000), 1, 6000, 0))


@pytest.mark.parametrize('docs, says', [([], 'at least 10 different documents.*got 0'), (['слово раз два'] * 30, '29 copies'), (['12 34'] * 30, '30 without words'),
                                        ([f'слово {word(i)}' for i in range(30)], 'at least 5,000 words, got 60')])
def test_too_little_text_is_refused(docs, says):
    with pytest.raises(ValueError, match=says): growth(docs)


@pytest.mark.parametrize('docs, says', [('один текст', 'not one string'), ([b'\xff'] * 20, 'document 0 is bytes'), ([None] * 20, 'document 0 is NoneType'), ([dict(txt='')] * 20, 'document 0 is dict')])
def test_what_is_no_text_is_refused(docs, says):
    with pytest.raises(TypeError, match=says): growth(docs)


@pytest.mark.parametrize('bad', [-1, 0, float('nan'), float('inf'), 1e30, None, 'много', True], ids=str)
@pytest.mark.parametrize('name', ['limit', 'bits', 'reach', 'halves'])
def test_one_error_names_the_parameter_and_its_range(name, bad):
    if (name, bad) == ('bits', 0) and bad is not False: return
    with pytest.raises(ValueError, match=f'{name}=.*expected a number from .* to '): growth([], **{name: bad})


@pytest.mark.parametrize('call, says', [(lambda g: g.until('слова'), "measure='слова': expected one of words"), (lambda g: g.until('distinct words'), 'never stop growing'),
                                        (lambda g: g.until('words', 0), 'threshold=0: expected'), (lambda g: g.until('words', 2), 'threshold=2: expected'),
                                        (lambda g: g.at('words', 1e15), 'n=.*: expected a number from'), (lambda g: g.at('words', float('nan')), 'n=nan')])
def test_questions_that_have_no_answer(found, call, says):
    with pytest.raises(ValueError, match=says): call(found)


@pytest.mark.parametrize('text, there, absent', [
    ('Суд расторгает брак. Закон принят.', [('суд', 'расторгать'), ('брак', 'расторгать')], [('закон', 'расторгать')]),
    ('Дом раз раз раз раз раз раз лежит.', [], [('дом', 'лежать')]), ('Лежит дом!', [('дом', 'лежать')], []), ('дом\n\nлежит', [], [('дом', 'лежать')])])
def test_a_fact_is_a_noun_near_a_verb_of_its_sentence(text, there, absent):
    w, doc, sentence, lemma, part, _ = novelty._encode([text, 'Дом. Лежит.'])
    name = {int(l): novelty._read(x)[1] for x, l in zip(dict.fromkeys(sat.words((text + ' Дом. Лежит.').lower())[0]), lemma)}
    facts = {(name[k >> 32], name[k & 0xffffffff]) for k in novelty._facts(w, doc, sentence, lemma, part)[0].tolist()}
    assert facts >= set(there) and not facts & set(absent)


def test_the_model_of_bits_is_a_proper_code(texts):
    train = texts[0] + '\0'*charbits._ORDER
    alphabet = sorted(set(train) - {'\0'})
    for context in (texts[0][100:120], texts[1][:30], 'ъъъъ'):
        p = [2**-charbits.surprise(train, context + c, [1000, len(texts[0])])[:, -1] for c in alphabet]
        assert (np.sum(p, 0) < 1).all() and np.sum(p, 0)[1] > .99
    assert (charbits.surprise(train, texts[0][:400], [len(texts[0])])[0, 10:].mean()) < 1.5 # what was read is cheap


def test_the_models_counts_by_hand():
    "One order, one letter: a three times, b once, discount from counts of counts"
    bits = charbits.surprise('aaab' + '\0'*6, 'b', [4])[0, 0]
    d = 1/(1 + 2*0)
    d = min(max(d, .1), .95)
    assert math.isclose(2**-bits, ((1 - d) + d*2/0x110000)/4)


@pytest.mark.parametrize('E, B, beta', [(1., 20., .3), (.5, 5., .1), (0., 8., .15)])
def test_the_law_of_bits_is_found_again(E, B, beta):
    n = 1000*2.**np.arange(9)
    law = charbits._asymptote(n, E + B/n**beta)
    assert np.allclose(charbits._gain(law, n), charbits._gain((E, B, beta), n), atol=.05)


def test_nothing_is_held_out_twice():
    texts, rng = [word(i)*50 for i in range(1, 31)], np.random.default_rng(0)
    held = [(out, rest) for out, rest in charbits._held(texts, rng)]
    flat = [t for out, _ in held for t in out]
    assert len(held) == 3 and len(flat) == len(set(flat)) and all(not set(o) & set(r) and len(o) + len(r) == 30 for o, r in held)


def test_a_narrow_author_saturates_before_a_mixture(shared):
    prose = [d['text'] for d in documents('classics') if d['author'] == 'Chekhov' and d['kind'] == 'prose']
    g = growth(prose, bits=0, halves=10)
    assert g.heaps['lemmas'][1].value < g.heaps['words'][1].value < .8 and abs(g['words'].error) < .1
