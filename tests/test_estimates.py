"Estimates: units that cancel, intervals that hold, a bootstrap that covers, one error for nonsense."
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from hyperlex_nb import estimates as estimates_
from hyperlex_nb.estimates import Estimate, bootstrap

positive = st.floats(1e-6, 1e6)

@st.composite
def estimates(draw, unit='a'):
    low, value, high = sorted(draw(st.tuples(positive, positive, positive)))
    return Estimate(value, low, high, unit)


@pytest.mark.parametrize('bad', [-1, 0, float('nan'), float('inf'), -float('inf'), None, 'много', '5', True, [1], 1e45])
def test_estimate_refuses(bad):
    with pytest.raises(ValueError, match='value='): Estimate(bad)


def test_estimate_refuses_a_value_outside_its_interval():
    with pytest.raises(ValueError, match='between low=6 and high=7'): Estimate(5, 6, 7)
    with pytest.raises(ValueError, match='low=nan'): Estimate(5, float('nan'), 7)


@given(estimates('a'), estimates('b'), st.floats(0, 1), st.floats(0, 1))
def test_interval_holds_every_product_and_quotient(x, y, s, t):
    a, b = x.low + s * (x.high - x.low), y.low + t * (y.high - y.low)
    for e, truth in ((x * y, a * b), (x / y, a / b), (x / x, a / a)):
        assert e.low * (1 - 1e-9) <= truth <= e.high * (1 + 1e-9)
        assert e.low <= e.value <= e.high


@given(estimates('a/b'), estimates('b/c'))
def test_units_cancel(x, y):
    assert (x * y).unit == 'a/c'
    assert (x / x).unit == ''
    assert estimates_._units((1 / x).unit) == estimates_._units('b/a')


@pytest.mark.parametrize('text', ['', '1', 'a', 'a/b', 'a*b/c', 'FLOP/s/gpu', '1/s', 'a*a/b/b'])
def test_units_round_trip(text):
    assert estimates_._units(estimates_._text(estimates_._units(text))) == estimates_._units(text)


def test_adding_and_joining_need_one_unit():
    with pytest.raises(ValueError, match="cannot add 'page' to 'byte'"): Estimate(1, unit='byte') + Estimate(1, unit='page')
    with pytest.raises(ValueError, match="cannot join 'page' with 'byte'"): Estimate(1, unit='byte') | Estimate(1, unit='page')


@given(estimates(), estimates())
def test_either_covers_both(x, y):
    e = x | y
    assert e.low <= min(x.low, y.low) and max(x.high, y.high) <= e.high and e.low <= e.value <= e.high
    assert (e.low, e.high) == ((y | x).low, (y | x).high)


def test_sources_are_carried_and_listed_once():
    a, b = Estimate(1, source='A'), Estimate(2, source='B')
    assert (a * b * a).source == 'A; B'


@pytest.mark.parametrize('n', [4, 8, 60])
def test_bootstrap_covers_the_truth_about_95_percent(n):
    rng, hits = np.random.default_rng(0), 0
    for i in range(300):
        words = rng.integers(50, 500, n)
        e = bootstrap(words * rng.normal(12, 1.5, n), words, reps=300, seed=i)
        hits += e.low <= 12 <= e.high
    assert 270 <= hits <= 298


def test_widen_is_students_t():
    for n, t in ((5, 2.776), (11, 2.228), (31, 2.042), (1001, 1.962)): assert abs(estimates_._widen(n) * 1.959964 / math.sqrt(n / (n - 1)) / t - 1) < .01


def test_bootstrap_resamples_documents_not_words():
    "The same text cut into 10 copies of each document must not look like more evidence than it is."
    rng = np.random.default_rng(1)
    words = rng.integers(100, 200, 30); size = words * rng.normal(12, 2, 30)
    one = bootstrap(size, words)
    ten = bootstrap(size * 10, words * 10)
    assert math.isclose(one.value, ten.value) and math.isclose(one.low, ten.low)


def test_bootstrap_is_reproducible():
    args = np.arange(1, 40) ** 1.5, np.arange(1, 40)
    assert bootstrap(*args, seed=3) == bootstrap(*args, seed=3)
    assert bootstrap(*args, seed=3) != bootstrap(*args, seed=4)


@pytest.mark.parametrize('top, bottom, why', [([1], [1], 'at least 2'), ([], [], 'at least 2'), ([1, 2], [1], 'same number'), ([1, 2], [1, 0], 'above 0'),
                                              ([1, float('nan')], [1, 1], 'finite'), ([1, -2], [1, 1], 'finite'), ([0, 0], [1, 1], 'too many'), ([0, 5], [1, 1], 'too many'), ([1, float('inf')], [1, 1], 'finite')])
def test_bootstrap_refuses(top, bottom, why):
    with pytest.raises(ValueError, match=why): bootstrap(top, bottom)
