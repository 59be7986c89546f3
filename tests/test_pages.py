"Pages: real works weighed, every pair of measures there and back, ratios that are those of the reference runs, the ladder of seed 003."
import json, math, shutil, subprocess, sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from hyperlex_nb import pages
from hyperlex_nb.estimates import Estimate
from hyperlex_nb.laws import chinchilla
from hyperlex_nb.pages import convert, levels, library, page_tokens, reading

CORPORA = 'opencorpora', 'classics'
TOKENIZERS = 'gpt2 cl100k qwen llama3 tekken o200k gemma3 llama4 bpe-64000 bpe-128000 hyperlexemes-64000 hyperlexemes-128000'.split()


@pytest.mark.parametrize('call, name', [(lambda x: library(x), 'books'), (lambda x: reading(x, 30), 'per_week'), (lambda x: reading(1, x), 'years'), (lambda x: page_tokens(['а' * 9999] * 3, len, x), 'size')])
@pytest.mark.parametrize('bad', [-1, 0, float('nan'), float('inf'), 1e30, None, 'сто', True], ids=str)
def test_one_error_names_the_parameter_and_its_range(call, name, bad):
    with pytest.raises(ValueError, match=f'{name}=.*expected a number from .* to '): call(bad)


def test_reading_the_seeds_claim():
    books = reading(Estimate(1.5, 1, 2, 'book/week'), 30)
    assert (round(books.low), round(books.high)) == (1565, 3131) and books.unit == 'book'


def test_library_units_and_order():
    e = library(20_000)
    assert e.unit == 'GB' and 5 < e.low < e.value < e.high < 20
    assert 'PG-19' in e.source and 'assumed' in e.source
    with pytest.raises(ValueError, match='books=.*expected an Estimate in book'): library(Estimate(5, unit='page'))


def test_library_of_real_works_leaves_short_ones_out():
    works = ['я' * 100_000, 'я' * 120_000, 'стих', '']
    e = library(2, works)
    assert math.isclose(e.value, 2 * 110_000 * 2 / 1e9) and e.n == 2
    with pytest.raises(ValueError, match='at least 2'): library(2, ['стих'] * 10)
    with pytest.raises(ValueError, match='at least 2'): library(2, [])


def test_pages_are_whole_and_sizes_add_up():
    texts = ['я' * 4000, 'я' * 1800, 'я' * 1799]
    mean, single = page_tokens(texts, len, 1800)
    assert mean.value == 1800 and single.n == 3 and mean.n == 2
    with pytest.raises(ValueError, match='hold a full page'): page_tokens(['да'], len)


def test_page_tokens_agree_with_the_ratio():
    rng = np.random.default_rng(0)
    texts = [' '.join('я' * k for k in rng.integers(1, 12, 4000)) for _ in range(5)]
    mean, single = page_tokens(texts, lambda t: len(t.split()), 1800)
    ratio = sum(len(t.split()) for t in texts) / (sum(map(len, texts)) / 1800)
    assert abs(mean.value - ratio) < 2 and single.low < mean.value < single.high


def test_classics_weigh_what_the_verdict_says():
    from hyperlex_nb.sources import documents
    try: texts = [d['text'] for d in documents('classics') if d['kind'] == 'prose']
    except FileNotFoundError: pytest.skip('no shared classics on this machine')
    e = library(20_000, texts)
    assert 10 < e.low < e.high < 20 and e.n > 50


@pytest.mark.parametrize('corpus', CORPORA)
@pytest.mark.parametrize('a', pages._UNITS)
def test_every_pair_of_measures_there_and_back(a, corpus):
    for b in pages._UNITS:
        there = convert(Estimate(1e9, .9e9, 1.2e9, a), b, corpus)
        back = convert(there, a, corpus)
        assert (there.unit, back.unit) == (b, a) and math.isclose(back.value, 1e9)
        assert there.low <= there.value <= there.high and back.low <= .9e9*(1 + 1e-9) and back.high >= 1.2e9*(1 - 1e-9)
        assert there.high/there.low >= 1.2/.9*(1 - 1e-9)


@pytest.mark.parametrize('corpus', CORPORA)
@pytest.mark.parametrize('name', TOKENIZERS)
def test_every_tokenizer_is_measured_in_every_corpus(name, corpus, root):
    "and its number is that of the run it names"
    row = pages._measured()[corpus][name]
    e = convert(Estimate(1000, unit='word'), 'token', corpus, name)
    assert e.value == pytest.approx(1000*row['value']) and 1 < row['low'] <= row['value'] <= row['high'] < 9 and row['run'] in e.source
    assert convert(Estimate(1000, unit='word'), 'hypertoken', corpus, hyper=name).value == e.value


def test_all_ratios_are_those_of_the_reference_runs(root):
    for corpus, rows in pages._measured().items():
        assert set(rows) == {'byte', 'byte/page', 'word/sentence', *TOKENIZERS} | ({'bit/byte'} if corpus == 'opencorpora' else set())
        for row in rows.values():
            m = json.loads((root/'runs'/'reference'/row['run']/'metrics.json').read_text(encoding='utf-8'))[row['metric']]
            assert [row[k] for k in ('value', 'low', 'high')] == pytest.approx([m[k] for k in ('value', 'low', 'high')], rel=1e-5)


def test_the_tool_writes_and_checks_the_ratios(root, tmp_path):
    def tool(folder, *args): return subprocess.run([sys.executable, 'tools/ratios.py', *args], cwd=folder, capture_output=True, text=True)
    assert tool(root, '--check').returncode == 0
    for part in ('tools/ratios.py', 'hyperlex_nb/assets/ratios.json', *(f'runs/reference/{r}/metrics.json' for r in ('cpu-fertility', 'cpu-fertility-classics', 'cpu-hyperlexemes', 'cpu-pretrain-seed0'))):
        (tmp_path/part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root/part, tmp_path/part)
    old = (tmp_path/'hyperlex_nb/assets/ratios.json').read_text(encoding='utf-8')
    (tmp_path/'hyperlex_nb/assets/ratios.json').write_text(old.replace('12.7991', '12.8'), encoding='utf-8')
    found = tool(tmp_path, '--check')
    assert found.returncode == 1 and 'run python tools/ratios.py' in found.stderr
    assert tool(tmp_path).returncode == 0 and (tmp_path/'hyperlex_nb/assets/ratios.json').read_text(encoding='utf-8') == old


def test_a_page_by_independent_arithmetic():
    "1,800 characters; bytes of a page over bytes of a word, times tokens of a word"
    m = pages._measured()['classics']
    page = convert(Estimate(1, unit='page'), 'token', 'classics', 'cl100k')
    assert page.value == pytest.approx(m['byte/page']['value']/m['byte']['value']*m['cl100k']['value'])
    assert convert(Estimate(1, unit='page'), 'character').value == pytest.approx(1800)
    assert convert(Estimate(1, unit='book'), 'word').value == pytest.approx(1.97e9/28_602*.9)
    assert 1.7 < convert(Estimate(1, unit='character'), 'byte').value < 2


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 1e15), st.floats(1, 50), st.sampled_from(pages._UNITS), st.sampled_from(pages._UNITS))
def test_conversion_is_linear(x, k, a, b):
    assert convert(Estimate(k*x, unit=a), b).value == pytest.approx(k*convert(Estimate(x, unit=a), b).value)


@pytest.mark.parametrize('args, says', [(('line', 'page'), "amount='line': expected one of word, page, book"), (('page', 'line'), "to='line': expected one of word"), (('page', 'page', 'web'), "corpus='web': expected one of opencorpora, classics"),
                                        (('page', 'token', 'classics', 'gpt9'), "tokenizer='gpt9': expected one of gpt2, cl100k"), (('page', 'token', 'classics', 'byte'), "tokenizer='byte'"), (('page', 'token', 'classics', 'byte/page'), "tokenizer='byte/page'")])
def test_unknown_names_are_answered_with_the_known(args, says):
    with pytest.raises(ValueError, match=says): convert(Estimate(1, unit=args[0]), *args[1:])


@pytest.mark.parametrize('bad', [5, '5', None])
def test_an_amount_without_a_unit_is_refused(bad):
    with pytest.raises(ValueError, match='amount='): convert(bad, 'page')


@pytest.mark.parametrize('corpus', CORPORA)
def test_the_ladder_rises(corpus):
    rows = levels(corpus, 'cl100k')
    assert [(l.pages, l.claimed) for l in rows] == [(1e6, 1e9), (1e8, 1e11), (1e9, 1e12), (1e10, 1e13)] and all(l.level and l.known and l.unknown for l in rows)
    for a, b in zip(rows, rows[1:]):
        assert a.tokens.value < b.tokens.value and a.size.value < b.size.value and a.loss.value > b.loss.value and a.books < b.books
        assert b.tokens.value/a.tokens.value == pytest.approx(b.pages/a.pages)
    for l in rows:
        assert .3 < l.tokens.value/l.claimed < 1.1
        law = chinchilla().optimum(6*l.size.value*l.tokens.value)
        assert law[0].value == pytest.approx(l.size.value) and law[2].value == pytest.approx(l.loss.value)
