"The planner: hostile input, and the published anchors of 6ND."
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from hyperlex_nb import planner
from hyperlex_nb.planner import Estimate, Route, library, page_tokens, reading

@pytest.mark.parametrize('call, name', [(lambda x: library(x), 'books'), (lambda x: reading(x, 30), 'per_week'), (lambda x: reading(1, x), 'years'),
                                        (lambda x: Route(gpus=x), 'gpus'), (lambda x: Route().gpus_for(x), 'months'), (lambda x: page_tokens(['а' * 9999] * 3, len, x), 'size')])
@pytest.mark.parametrize('bad', [-1, 0, float('nan'), 1e30, None, 'сто'])
def test_one_error_names_the_parameter_and_its_range(call, name, bad):
    with pytest.raises(ValueError, match=f'{name}=.*expected a number from .* to '): call(bad)


def test_reading_the_seeds_claim():
    books = reading(Estimate(1.5, 1, 2, 'book/week'), 30)
    assert (round(books.low), round(books.high)) == (1565, 3131) and books.unit == 'book'


def test_library_units_and_order():
    e = library(20_000)
    assert e.unit == 'GB' and 5 < e.low < e.value < e.high < 20
    assert 'PG-19' in e.source and 'assumed' in e.source


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


@pytest.mark.parametrize('N, D, flops', [(70e9, 1.4e12, 5.88e23), (405e9, 15.6e12, 3.79e25), (174.6e9, 300e9, 3.14e23)])
def test_6nd_anchors(N, D, flops):
    r = replace(Route(), params=Estimate(N, unit='parameter'), size=Estimate(D, unit='byte'), token_bytes=Estimate(1, unit='byte/token'))
    assert abs(r.flops.value / flops - 1) < .01 and r.flops.unit == 'FLOP'


@pytest.mark.parametrize('name', ['Llama-3 8B', 'Llama-3 70B', 'Llama-3.1 405B', 'nanochat'])
def test_published_hours_lie_in_the_planners_interval(name):
    flops, hours = planner._RUNS[name]
    r = replace(Route(), gpu='H100', gpus=1, params=Estimate(flops / 6, unit='parameter'), size=Estimate(1, unit='byte'), token_bytes=Estimate(1, unit='byte/token'))
    months = hours / (365.25 / 12 * 24)
    assert r.months_to_train.low * .999 <= months <= r.months_to_train.high * 1.001


def test_route_is_monotone_and_shows_every_assumption():
    a, b = Route(), Route(gpus=32)
    assert math.isclose(a.months_to_train.value, 2 * b.months_to_train.value)
    assert Route(gpu='H100').months_to_train.value < a.months_to_train.value
    assert a.fits and not replace(a, params=Estimate(200e9, unit='parameter')).fits
    text = str(a)
    assert all(name in text for name in ('size', 'line', 'char_bytes', 'token_bytes', 'gpus', 'params', 'writer', 'mfu', 'decode', 'state', 'memory', 'ZeRO', 'morphllm'))


def test_gpus_for_is_the_inverse_of_months():
    r = Route(gpu='H100')
    g = r.gpus_for(2)
    assert g.unit == 'gpu' and math.isclose(g.value / 16 * 2, r.months_to_train.value, rel_tol=1e-9)


def test_unknown_gpu_and_bare_numbers():
    with pytest.raises(ValueError, match="gpu='TPU': expected one of A100, H100"): Route(gpu='TPU')
    with pytest.raises(ValueError, match='params=.*expected an Estimate in parameter'): Route(params=70e9)
    with pytest.raises(ValueError, match='line=.*expected an Estimate in character/line'): Route(line=Estimate(5, unit='byte'))
    with pytest.raises(ValueError, match='mfu=.*expected an Estimate in shares of 1'): Route(mfu=.4)
    with pytest.raises(ValueError, match='params=1e.30.*from 1e-12 to 1e.27 parameter'): Route(params=Estimate(1e30, unit='parameter'))
    with pytest.raises(ValueError, match='books=.*expected an Estimate in book'): library(Estimate(5, unit='page'))


def test_classics_weigh_what_the_verdict_says():
    from hyperlex_nb.sources import documents
    try: texts = [d['text'] for d in documents('classics') if d['kind'] == 'prose']
    except FileNotFoundError: pytest.skip('no shared classics on this machine')
    e = library(20_000, texts)
    assert 10 < e.low < e.high < 20 and e.n > 50
