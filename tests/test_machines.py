"Machines: published hours, also those that an interval has not seen; bills that add up; the one-terabyte route; one error for nonsense."
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from hyperlex_nb import machines
from hyperlex_nb.estimates import Estimate, _units
from hyperlex_nb.machines import GPUS, Route, bill, mfu
from hyperlex_nb.memory import training_memory
from hyperlex_nb.shapes import Shape

SHARE = {name: machines._share(*r, 'H100') for name, r in machines._RUNS.items()}
BAD = [-1, 0, float('nan'), float('inf'), 1e33, None, 'сто', True]


@pytest.mark.parametrize('name', GPUS)
def test_cards_are_found_however_they_are_written(name):
    card = GPUS[name]
    assert machines._gpu(name.lower()) is machines._gpu(name[:2] + '-' + name[2:]) is machines._gpu(f' {name}'.replace('RTX', 'rtx ')) is card
    assert 1e12 < card.flops < 1e16 and 1e10 < card.memory < 1e12 and 1e11 < card.bandwidth < 1e13 and 50 < card.power < 2000 and 0 < card.rent[0] < card.rent[1] and card.source


@pytest.mark.parametrize('name, low, high', [('Llama-3 8B', .15, .16), ('Llama-3 70B', .27, .28), ('Llama-3.1 8B', .135, .145), ('Llama-3.1 70B', .25, .26), ('Llama-3.1 405B', .34, .35), ('nanochat', .49, .51)])
def test_shares_of_the_peak_are_the_published_ones(name, low, high):
    assert low < SHARE[name] < high and set(SHARE) == {'Llama-3 8B', 'Llama-3 70B', 'Llama-3.1 8B', 'Llama-3.1 70B', 'Llama-3.1 405B', 'nanochat'}
    assert mfu().low <= SHARE[name] <= mfu().high


@pytest.mark.parametrize('name', machines._RUNS)
def test_published_hours_lie_inside_the_bill(name):
    flops, hours = machines._RUNS[name]
    b = bill(flops)
    assert b.hours.low*.999 <= hours <= b.hours.high*1.001


def test_hours_of_each_run_from_the_others_alone():
    "Four of six; the slowest lies 12% beyond the others' hours, the fastest took 69% of their least"
    out = {}
    for name, (flops, hours) in machines._RUNS.items():
        others = sorted(s for k, s in SHARE.items() if k != name)
        b = bill(flops, share=Estimate(others[2], others[0], others[-1]))
        if not b.hours.low <= hours <= b.hours.high: out[name] = round(hours/(b.hours.high if hours > b.hours.high else b.hours.low), 2)
    assert out == {'Llama-3.1 8B': 1.12, 'nanochat': .69}


@pytest.mark.parametrize('N, D, hours, inside', [(6.7e9, 1e12, 82_432, True), (13e9, 1e12, 135_168, False), (65.2e9, 1.4e12, 1_022_362, True), (69e9, 2e12, 1_720_320, True)])
def test_hours_of_trainings_on_another_card(N, D, hours, inside):
    "LLaMA and Llama 2 in A100 hours (2302.13971, 2307.09288); the 13B was a point of MFU better than any of the runs"
    b = bill(6*N*D, 'A100').hours
    assert (b.low <= hours <= b.high) == inside and hours > .95*b.low


def test_a_bill_adds_up_in_its_units():
    b = bill(989.4e12*3600*48, 'H100', 2, share=.5, price=3)
    assert (b.hours.value, b.days.value, b.cost.value, b.nodes) == pytest.approx((96, 2, 288, 1))
    assert b.energy.value == pytest.approx(96*.7*.85*1.2) and b.energy.low == pytest.approx(96*.7*.6*1.05) and b.energy.high == pytest.approx(96*.7*1.6)
    assert [_units(x.unit) for x in (b.flops, b.hours, b.days, b.energy, b.cost)] == [_units(u) for u in ('FLOP', 'gpu*hour', 'day', 'kWh', 'USD')]
    assert {k: v.value for k, v in b.assumed} == pytest.approx(dict(mfu=.5, price=3, draw=.85, pue=1.2)) and all(v.source for _, v in b.assumed)
    assert [bill(1e20, gpus=n).nodes for n in (1, 8, 9, 16_384)] == [1, 1, 2, 2048] and bill(1e20, gpus=9, node=4).nodes == 3


amounts = st.floats(1e10, 1e30)

@settings(max_examples=40, deadline=None)
@given(amounts, st.floats(1, 100), st.integers(1, 10**5), st.integers(1, 9), st.floats(.01, .5), st.floats(.1, 9), st.sampled_from(sorted(GPUS)))
def test_bills_are_monotone(flops, more, gpus, times, share, price, gpu):
    a = bill(flops, gpu, gpus, share, price)
    assert bill(flops*more, gpu, gpus, share, price).cost.value >= a.cost.value
    b = bill(flops, gpu, gpus*times, share, price)
    assert b.days.value*times == pytest.approx(a.days.value) and b.cost.value == pytest.approx(a.cost.value) and b.nodes >= a.nodes
    assert bill(flops, gpu, gpus, share*2, price).cost.value == pytest.approx(a.cost.value/2)
    assert bill(flops, gpu, gpus, share, price*more).cost.value == pytest.approx(a.cost.value*more)
    wide = bill(flops, gpu, gpus)
    for k in ('hours', 'days', 'energy', 'cost'): assert 0 < getattr(wide, k).low < getattr(wide, k).value < getattr(wide, k).high < math.inf


def test_text_numbers_and_estimates_are_one():
    assert bill('3.79e25', share='0.35..0.45').hours == bill(3.79e25, share=Estimate((.35*.45)**.5, .35, .45, source='given')).hours == bill(Estimate(3.79e25, unit='FLOP', source='given'), share='0.35..0.45').hours


@pytest.mark.parametrize('bad', BAD, ids=str)
@pytest.mark.parametrize('call, name', [(lambda x: bill(x), 'flops'), (lambda x: bill(1e20, gpus=x), 'gpus'), (lambda x: bill(1e20, node=x), 'node'), (lambda x: bill(1e20, share=x or 0), 'mfu'), (lambda x: bill(1e20, price=x or 0), 'price'),
                                        (lambda x: Route(gpus=x), 'gpus'), (lambda x: Route().gpus_for(x), 'months')])
def test_one_error_names_the_parameter_and_its_range(call, name, bad):
    with pytest.raises(ValueError, match=f'{name}=.*expected a (whole )?number from .* to '): call(bad)


def test_half_a_card_wrong_units_and_unknown_cards():
    with pytest.raises(ValueError, match='gpus=1.5: expected a whole number'): bill(1e20, gpus=1.5)
    with pytest.raises(ValueError, match='flops=.*expected an Estimate in FLOP'): bill(Estimate(1e20, unit='byte'))
    with pytest.raises(ValueError, match='mfu=2: expected a number from 0.001 to 1'): bill(1e20, share=2)
    with pytest.raises(ValueError, match="gpu='TPU': expected one of A100, H100"): bill(1e20, 'TPU')


@pytest.mark.parametrize('N, D, flops', [(70e9, 1.4e12, 5.88e23), (405e9, 15.6e12, 3.79e25), (174.6e9, 300e9, 3.14e23)])
def test_6nd_anchors(N, D, flops):
    r = replace(Route(), params=Estimate(N, unit='parameter'), size=Estimate(D, unit='byte'), token_bytes=Estimate(1, unit='byte/token'))
    assert abs(r.flops.value / flops - 1) < .01 and r.flops.unit == 'FLOP'


@pytest.mark.parametrize('name', machines._RUNS)
def test_published_hours_lie_in_the_routes_interval(name):
    flops, hours = machines._RUNS[name]
    r = replace(Route(), gpu='H100', gpus=1, params=Estimate(flops / 6, unit='parameter'), size=Estimate(1, unit='byte'), token_bytes=Estimate(1, unit='byte/token'))
    months = hours / (365.25 / 12 * 24)
    assert r.months_to_train.low * .999 <= months <= r.months_to_train.high * 1.001


def test_the_route_and_the_bill_agree():
    r = Route(gpu='H100', gpus=256)
    b = bill(r.flops, 'H100', 256, r.mfu)
    for end in ('value', 'low', 'high'): assert getattr(b.days, end) == pytest.approx(getattr(r.months_to_train, end)*365.25/12)


def test_route_is_monotone_and_shows_every_assumption():
    a, b = Route(), Route(gpus=32)
    assert math.isclose(a.months_to_train.value, 2 * b.months_to_train.value)
    assert Route(gpu='H100').months_to_train.value < a.months_to_train.value
    assert b.fits and not a.fits and not replace(b, params=Estimate(200e9, unit='parameter')).fits
    card = training_memory(Shape.sized(70e9), gpus=16, sharding='fsdp', length=4096)
    assert a.needed.unit == 'byte/gpu' and (a.needed.value, a.needed.high, a.fits) == (card.total.value, card.total.high, card.fits(80e9))
    text = str(a)
    assert all(name in text for name in ('size', 'line', 'char_bytes', 'token_bytes', 'gpus', 'params', 'writer', 'mfu', 'decode', 'needed', 'memory', 'ZeRO', 'morphllm'))


def test_gpus_for_is_the_inverse_of_months():
    r = Route(gpu='H100')
    g = r.gpus_for(2)
    assert g.unit == 'gpu' and math.isclose(g.value / 16 * 2, r.months_to_train.value, rel_tol=1e-9)


def test_routes_refuse_bare_numbers_and_other_units():
    with pytest.raises(ValueError, match="gpu='TPU': expected one of A100, H100"): Route(gpu='TPU')
    with pytest.raises(ValueError, match='params=.*expected an Estimate in parameter'): Route(params=70e9)
    with pytest.raises(ValueError, match='line=.*expected an Estimate in character/line'): Route(line=Estimate(5, unit='byte'))
    with pytest.raises(ValueError, match='mfu=.*expected an Estimate in shares of 1'): Route(mfu=.4)
    with pytest.raises(ValueError, match='params=1e.30.*from 1e-12 to 1e.27 parameter'): Route(params=Estimate(1e30, unit='parameter'))
