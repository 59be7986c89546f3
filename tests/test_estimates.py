"Estimates: units that cancel, intervals that hold, a bootstrap that covers, one error for nonsense."
import json, math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from hyperlex_nb import estimates as estimates_
from hyperlex_nb.estimates import Estimate, Sheet, bootstrap, quantity
from hyperlex_nb.laws import Match

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


@pytest.mark.parametrize('text, value', [('70B', 70e9), ('70b', 70e9), ('70 G', 70e9), ('1.4T', 1.4e12), ('5.76e23', 5.76e23), ('5.76E+23', 5.76e23), ('.5M', 5e5), ('8k', 8e3), ('3P', 3e15), ('2E', 2e18), ('1_000', 1000), (' 7 ', 7), ('1e3K', 1e6), (7, 7), (np.float32(.5), .5), (np.int64(8), 8), ('+2', 2)])
def test_quantities_are_read(text, value):
    e = quantity(text, 'x', 1e-3, 1e24, 'token', 'a table')
    assert (e.value, e.low, e.high, e.unit, e.source) == (value, value, value, 'token', 'a table')


@pytest.mark.parametrize('text, ends', [('2.2[1.9,2.6]', (2.2, 1.9, 2.6)), ('2.2 [1.9, 2.6]', (2.2, 1.9, 2.6)), ('22B[7B,70B]', (22e9, 7e9, 70e9)), ('1.9..2.6', (math.sqrt(1.9*2.6), 1.9, 2.6)), ('1M..1B', (math.sqrt(1e15), 1e6, 1e9)), ('2[2,2]', (2, 2, 2))])
def test_intervals_are_read(text, ends): assert (lambda e: (e.value, e.low, e.high))(quantity(text)) == pytest.approx(ends)


@pytest.mark.parametrize('bad', ['', ' ', 'сто', 'B', '70X', '7 0', '1,5', '1..', '..2', '2..1', '1..2..3', '2[1]', '2[3,4]', '2[1,1.5]', '2[1,3]B', '[1,2]', '-1', '0', 'nan', 'inf', '1e30', '1e999', '-5..5', '0x10', '1_B', '1__0', '1_e5', '70B[60,80]', None, True, [1], float('nan'), -1, 0, 1e30], ids=repr)
def test_quantities_refuse_and_name_the_parameter(bad):
    with pytest.raises(ValueError, match=r'^N=.*expected') as e: quantity(bad, 'N', 1e-12, 1e27, 'token')
    assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize('text, low, high', [('70', 1e6, 1e14), ('1e5..1e9', 1e6, 1e14), ('1e9[1e8,1e15]', 1e6, 1e14), (1e5, 1e6, 1e14)])
def test_both_ends_of_a_quantity_lie_in_the_range(text, low, high):
    with pytest.raises(ValueError, match=r'N=.*expected a number from 1e\+06 to 1e\+14 token'): quantity(text, 'N', low, high, 'token')


def test_an_estimate_keeps_everything_or_is_refused():
    e = Estimate(2, 1, 3, 'byte/token', 'a paper', 5)
    assert quantity(e, 'x', .1, 10, 'byte/token') is e and quantity(Estimate(2, unit='b*a'), 'x', unit='a*b').value == 2
    with pytest.raises(ValueError, match='x=.*expected an Estimate in token, not byte/token'): quantity(e, 'x', unit='token')
    with pytest.raises(ValueError, match='x=.*expected an Estimate in no unit'): quantity(e, 'x')
    with pytest.raises(ValueError, match='x=3.*from 0.1 to 2 byte/token'): quantity(e, 'x', .1, 2, 'byte/token')


@settings(max_examples=300)
@given(st.text('0123456789.eE+-[],;_ KMBTnaif', max_size=12))
def test_any_text_is_a_quantity_or_an_error_that_names_it(text):
    try: e = quantity(text, 'N', 1, 1e20)
    except ValueError as error: assert str(error).startswith('N=') and 'expected' in str(error)
    else: assert 1 <= e.low <= e.value <= e.high <= 1e20


@given(st.floats(1e-11, 1e26))
def test_numbers_and_their_text_are_the_same_quantity(x): assert quantity(repr(x)) == quantity(x) and quantity(repr(x)).value == x


@given(st.floats(1e-6, 1e18))
def test_short_numbers_can_be_read_again(x):
    for giga in 'BG': assert quantity(estimates_._short(x, giga).replace(',', '')).value == pytest.approx(x, rel=.006)


@pytest.mark.parametrize('x, text', [(.00123, '0.00123'), (15_651, '15,651'), (7e10, '70B'), (1.5e6, '1.5M'), (2.5e12, '2.5T'), (123e12, '123T'), (5.76e23, '5.76e+23'), (999_600, '1M'), (999.6e6, '1B'), (999.7, '1,000'), (999.7e12, '1e+15')])
def test_numbers_are_shown_as_people_write_them(x, text): assert estimates_._short(x) == text and (estimates_._short(x, 'G') == text.replace('B', 'G'))


SHEET = Sheet('A plan', dict(N=Estimate(70e9, 60e9, 80e9, 'parameter', 'given'), law='refit', gpus=8, budget=None, deep=True), dict(
    cost=Estimate(2.5, 1, 5, 'USD', 'a price list'), tokens=Match(math.inf, 1e12, math.inf, .25, 'token'), parts=dict(a=Estimate(1e9, unit='byte'), b=[1, 2.5]), fits=False, left=math.inf, none=None, odd=float('nan'), count=np.int64(3), curve=np.array([1., np.inf])), ('take care',))

def test_a_sheet_is_plain_json():
    told = SHEET.as_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told and SHEET['cost'].value == 2.5
    r, g = told['results'], told['given']
    assert r['cost'] == dict(value=2.5, low=1., high=5., unit='USD', source='a price list') and r['tokens'] == dict(value=None, low=1e12, high=None, possible=.25, unit='token') and r['parts'] == dict(a=dict(value=1e9, low=1e9, high=1e9, unit='byte'), b=[1, 2.5])
    assert (r['fits'], r['left'], r['none'], r['odd'], r['count'], r['curve']) == (False, None, None, None, 3, [1., None]) and (g['law'], g['gpus'], g['budget'], g['deep'], told['notes']) == ('refit', 8, None, True, ['take care'])


def test_a_sheet_is_a_readable_table():
    rows = [l.split(None, 1) for l in str(SHEET).splitlines()]
    assert rows[0] == ['A', 'plan'] and ['N', '70B [60B, 80B] parameter'] in rows and ['cost', '2.5 [1, 5] USD  (a price list)'] in rows and ['budget', '-'] in rows and ['deep', 'yes'] in rows and ['fits', 'no'] in rows and ['left', 'impossible'] in rows
    assert ['parts', 'a: 1G byte'] in rows and ['tokens', 'impossible [1T, impossible] token, possible in 25% of the draws'] in rows and str(SHEET).endswith('note: take care')
    assert str(Sheet('Empty', {}, {})) == 'Empty'
