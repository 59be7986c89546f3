"Equivalence: the published multiples, the algebra at its fixed points, order in every parameter, the impossible named, runs read with care."
import json, math

import pytest
from hypothesis import assume, given, settings, strategies as st

from hyperlex_nb.equivalence import equivalence, measured, multiplier, own_law
from hyperlex_nb.estimates import Estimate
from hyperlex_nb.laws import LAWS, Law, Match, chinchilla

HOFFMANN, BESIROGLU = LAWS['hoffmann'], LAWS['besiroglu']
READINGS = 'balanced', 'same_text', 'same_size'
sizes, many = st.floats(1e8, 1e12), st.sampled_from(list(LAWS.values()))
def narrow(e): return math.log(e.high/e.low)


def equal_to(N, D, size, law):
    "The equivalence of N parameters and D tokens whose loss is that of `size` on the same text: its multiplier by bisection"
    low, high = 1., 1e6
    for _ in range(200):
        mid = math.sqrt(low*high)
        low, high = (mid, high) if equivalence(N, D, m=mid, law=law).same_text.value < size else (low, mid)
    return equivalence(N, D, m=low, law=law)


@pytest.mark.parametrize('law, D, times', [(HOFFMANN, 1.4e12, 2.2), (BESIROGLU, 1.4e12, 4.7), (BESIROGLU, 15e12, math.inf)])
def test_what_a_70b_needs_to_match_300b(law, D, times):
    "The published multiples of data, through the multiplier at which 70B equals 300B on the same text"
    e = equal_to(70e9, D, 300e9, law)
    assert e.same_text.value == pytest.approx(300e9, rel=1e-3)
    assert e.same_size.value == math.inf == times and e.same_size.possible == 0 or e.same_size.value/D == pytest.approx(times, abs=.05) and e.same_size.possible == 1
    assert e.loss.value == pytest.approx(law.loss(300e9, D).value)


@settings(max_examples=40, deadline=None)
@given(sizes, st.floats(1, 1e4), many)
def test_a_multiplier_of_one_gives_the_model_itself(N, ratio, law):
    e = equivalence(N, min(N*ratio, 1e18), m=1, law=law)
    assert (e.balanced.value, e.same_text.value, e.same_size.value) == pytest.approx((e.N, e.N, e.D), rel=1e-4) and e.loss.value == pytest.approx(law.loss(e.N, e.D).value)


def test_a_multiplier_of_one_gives_the_model_itself_in_every_draw():
    e = equivalence(70e9, 1.4e12, m=1)
    for k, truth in (('balanced', 70e9), ('same_text', 70e9), ('same_size', 1.4e12)): assert getattr(e, k)[:4] == pytest.approx((truth, truth, truth, 1))


@settings(max_examples=40, deadline=None)
@given(st.floats(1e19, 1e26), st.floats(.1, 100), many)
def test_lossless_compression_of_an_optimal_training_is_its_own_multiplier(C, r, law):
    N, D, _ = (e.value for e in law.optimum(C))
    m = multiplier(r, 1, N, D, law)
    assert m.value == pytest.approx(r, rel=1e-4) and equivalence(N, D, compression=r, law=law).multiplier.value == pytest.approx(r, rel=1e-4)


@pytest.mark.parametrize('D', ['1.4T', '15T', '100B'])
def test_the_same_text_in_fewer_tokens_is_the_same_model(D):
    e = equivalence('70B', D, compression=2, law=BESIROGLU)
    assert [e.multiplier.value, e.balanced.value, e.same_text.value, e.same_size.value/e.D] == pytest.approx([2, 70e9, 70e9, 1]) and e.loss.value == BESIROGLU.loss(70e9, e.D).value


@pytest.mark.parametrize('price', [.99, 1, 1.01])
def test_both_ways_to_the_multiplier_agree_at_the_optimum(price):
    N, D, _ = (e.value for e in BESIROGLU.optimum(5.76e23))
    m, e = multiplier('2[1.8,2.1]', price, N, D, BESIROGLU), equivalence(N, D, compression='2[1.8,2.1]', price=price, law=BESIROGLU)
    assert tuple(m[:4]) == pytest.approx(tuple(e.multiplier[:4]), rel=1e-4)
    assert e.loss.value == pytest.approx(BESIROGLU.loss(e.balanced.value, D*(e.multiplier.value/2*N/e.balanced.value)).value)
    spent = equivalence(N, D, compression=2, price=price, law=BESIROGLU, spend=True)
    assert spent.loss.value == pytest.approx(price*BESIROGLU.loss(N, 2*D).value) and spent.same_size.value > e.same_size.value


@settings(max_examples=30, deadline=None)
@given(sizes, st.floats(.05, 1e3), st.floats(1.01, 10), many)
def test_all_readings_grow_with_the_multiplier(N, m, more, law):
    a, b = (equivalence(N, m=x, law=law) for x in (m, m*more))
    for k in READINGS: assert getattr(a, k).value < getattr(b, k).value or getattr(b, k).value == math.inf
    assert b.loss.value < a.loss.value


@settings(max_examples=30, deadline=None)
@given(sizes, st.floats(.5, 20), st.floats(.95, 1.05), st.floats(1.01, 3), st.floats(1.001, 1.05), many)
def test_the_multiplier_grows_with_compression_and_falls_with_the_price(N, r, price, more, dearer, law):
    D = law._partner(N=N)
    one = multiplier(r, price, N, D, law).value
    assert multiplier(r*more, price, N, D, law).value == pytest.approx(one*more) or one == math.inf
    assert multiplier(r, price*dearer, N, D, law).value < one or one == math.inf == multiplier(r, price*dearer, N, D, law).value
    e = [equivalence(N, D, compression=r, price=p, law=law).balanced.value for p in (price, price*dearer)]
    assert e[1] < e[0] or e[0] == math.inf


@settings(max_examples=30, deadline=None)
@given(sizes, st.floats(1.1, 50), many)
def test_the_multiplier_needed_is_the_one_that_does(N, times, law):
    t = N*times
    need = equivalence(N, targets=(t,), law=law).needed[t]
    assume(need.value < 1e6)
    assert equivalence(N, m=need.value, law=law).balanced.value == pytest.approx(t)


def test_the_refit_gives_intervals_and_needs_more_for_more():
    e = equivalence(70e9, m=2.25)
    for x in (e.balanced, e.same_text, e.same_size, e.loss, *e.needed.values()): assert x.low < x.value < x.high and x.possible == 1
    assert [m.value for m in e.needed.values()] == sorted(m.value for m in e.needed.values()) and list(e.needed) == [300e9, 1000e9, 1500e9]
    assert e.needed[300e9].low > 2.5 and e.balanced.high < 300e9 and (e.balanced.unit, e.same_size.unit, e.loss.unit) == ('parameter', 'token', 'nat/token')


@pytest.mark.parametrize('law', [BESIROGLU, None], ids=['a law', 'draws of a law'])
@pytest.mark.parametrize('given_', [dict(m=Estimate(2.2, 2, 2.4)), dict(compression=Estimate(2, 1.9, 2.1)), dict(compression=2, price=Estimate(1, .998, 1.002))], ids=str)
def test_intervals_widen_with_those_of_the_input(law, given_):
    (key, e), = ((k, v) for k, v in given_.items() if isinstance(v, Estimate))
    wide = [equivalence(70e9, 1.4e12, law=law, **{**given_, key: Estimate(e.value, e.value*(e.low/e.value)**k, e.value*(e.high/e.value)**k)}) for k in (0, 1, 2)]
    for k in ('multiplier', *READINGS)[:1 if key == 'compression' else None]: # what the same text is worth does not depend on how it is cut
        a, b, c = (narrow(getattr(w, k)) for w in wide)
        assert a < b < c, k
        assert len({getattr(w, k).value for w in wide}) == 1


def test_intervals_of_a_law_without_draws_are_those_of_the_input():
    m = multiplier('2[1.9,2.2]', 1, *(e.value for e in BESIROGLU.optimum(1e24)[:2]), BESIROGLU)
    assert (m.low, m.high) == pytest.approx((1.9, 2.2), rel=.01)
    e = equivalence(70e9, m='1.9..2.2', law=BESIROGLU)
    assert (e.multiplier.low, e.multiplier.high) == pytest.approx((1.9, 2.2), rel=.01)


def test_the_seed_moves_ends_a_little_and_nothing_else():
    a, b, c = (equivalence(70e9, m='2.2[1.9,2.6]', seed=s) for s in (0, 0, 1))
    assert a == b and a.balanced.value == c.balanced.value and a.same_text.high != c.same_text.high and a.same_text.high == pytest.approx(c.same_text.high, rel=.1)


@settings(max_examples=60, deadline=None)
@given(st.floats(1e6, 1e13), st.floats(1e6, 1e16), st.floats(.01, 1e4), st.floats(.1, 10), many)
def test_the_impossible_is_infinite_and_nothing_is_nan(N, D, r, price, law): whole(N, D, r, price, law)


@pytest.mark.parametrize('N', [1e6, 1e16])
@pytest.mark.parametrize('D', [1e6, 1e18])
def test_nothing_is_nan_at_the_ends_of_the_accepted_ranges(N, D):
    for law in (*LAWS.values(), None):
        for price in (.1, 1, 10): whole(N, D, 1, price, law)


def whole(N, D, r, price, law):
    e = equivalence(N, D, compression=r, price=price, law=law)
    for x in (e.multiplier, e.loss, *(getattr(e, k) for k in READINGS), *e.needed.values(), multiplier(r, price, N, D, law)):
        assert isinstance(x, Match) and 0 < x.low <= x.value <= x.high and 0 <= x.possible <= 1
        assert (x.value == math.inf) == (x.possible == 0) or law is None


@settings(max_examples=30, deadline=None)
@given(st.floats(1e7, 1e13), st.floats(1e8, 1e16), st.floats(.9, 1.1))
def test_what_is_infinite_is_not_possible_in_every_draw(N, D, price):
    e = equivalence(N, D, compression='1.5[1,2]', price=price)
    for x in (e.multiplier, *(getattr(e, k) for k in READINGS)):
        assert 0 < x.low <= x.value <= x.high and 0 <= x.possible <= 1 and (x.high < math.inf or x.possible < 1)
        assert x.value < math.inf or x.possible < 1


def test_bits_below_the_entropy_are_impossible():
    e = equivalence(70e9, compression=2, price=.8)
    assert e.multiplier.value == e.balanced.value == e.same_size.value == math.inf and e.multiplier.possible == 0
    assert e.loss.value == pytest.approx(.8*chinchilla().loss(70e9, e.D).value) and str(e.balanced) == 'impossible'


BAD = [-1, 0, float('nan'), float('inf'), 1e30, '', 'сто', True]

@pytest.mark.parametrize('bad', BAD, ids=str)
@pytest.mark.parametrize('call, name', [(lambda x: equivalence(x), 'N'), (lambda x: equivalence(70e9, x), 'D'), (lambda x: equivalence(70e9, m=x), 'multiplier'), (lambda x: equivalence(70e9, compression=x), 'compression'), (lambda x: equivalence(70e9, price=x), 'price'),
                                        (lambda x: equivalence(70e9, targets=[3e11, x]), 'targets'), (lambda x: multiplier(x, 1, 1e9, 1e10), 'compression'), (lambda x: multiplier(2, x, 1e9, 1e10), 'price'), (lambda x: multiplier(2, 1, x, 1e10), 'N'), (lambda x: multiplier(2, 1, 1e9, x), 'D')])
def test_one_error_names_the_parameter_and_its_range(call, name, bad):
    with pytest.raises(ValueError, match=f'{name}=.*expected a (whole )?number from .* to '): call(bad)


def a_run(folder, ratio=1.2, bits=1.01, arm='hyperlexemes', against='bpe', budget='bytes', spread=.02, **more):
    folder.mkdir()
    metric = lambda v: dict(value=v, low=v*(1 - spread), high=v*(1 + spread))
    (folder/'metrics.json').write_text(json.dumps({f'bpb/{arm}': metric(1.4) | dict(budget=budget), f'ratio/{against}/{arm}': metric(ratio), f'bpb_ratio/{arm}': metric(bits) | dict(baseline=against)} | more), encoding='utf-8')
    return folder


def test_one_run_is_taken_with_its_own_interval(tmp_path):
    r, price = measured([a_run(tmp_path/'a')])
    assert (r.value, r.low, r.high, r.n, r.unit) == pytest.approx((1.2, 1.2*.98, 1.2*1.02, 1, '')) and price.value == pytest.approx(1.01) and 'a: hyperlexemes against bpe' in r.source


def test_seeds_are_joined_by_students_t(tmp_path):
    values = [1.18, 1.2, 1.25]
    folders = [a_run(tmp_path/f's{i}', v, 1, spread=1e-9) for i, v in enumerate(values)]
    for n, t in ((2, 12.7062), (3, 4.30265)):
        logs = [math.log(v) for v in values[:n]]
        mean = sum(logs)/n
        wide = t*math.sqrt(sum((x - mean)**2 for x in logs)/(n - 1)/n)
        r, price = measured(folders[:n])
        assert (r.value, r.low, r.high) == pytest.approx((math.exp(mean), math.exp(mean - wide), math.exp(mean + wide)), rel=1e-4) and r.n == n
        assert price.high - price.low < 1e-6
    assert 's0, s1, s2' in measured(folders)[0].source


def test_works_and_seeds_both_widen(tmp_path):
    one = [measured([a_run(tmp_path/f'{s}{i}', v, 1, spread=s) for i, v in enumerate((1.19, 1.2, 1.21))])[0] for s in (1e-9, .05)]
    assert narrow(one[1]) > max(narrow(one[0]), 2*math.log(1.05)) and narrow(one[1]) < narrow(one[0]) + .11


def test_runs_of_another_budget_or_without_the_metrics_are_left_out(tmp_path):
    good, other = a_run(tmp_path/'good'), a_run(tmp_path/'flops', 9, 9, budget='flops')
    (tmp_path/'empty').mkdir(); (tmp_path/'empty'/'metrics.json').write_text('{}')
    r, price = measured([other, tmp_path/'empty', good])
    assert r.value == pytest.approx(1.2) and r.n == 1 and 'flops' not in r.source
    assert measured([other, good], budget='flops')[0].value == pytest.approx(9)
    with pytest.raises(ValueError, match='none of 2 folders holds.*hyperlex run'): measured([other, tmp_path/'empty'])
    with pytest.raises(ValueError, match='none of 0 folders'): measured([])
    with pytest.raises(ValueError, match='none of 1 folders holds.*words'): measured([good], arm='words')


def test_a_tokenizer_that_was_not_compared_is_named(tmp_path):
    with pytest.raises(ValueError, match='unigram'): measured([a_run(tmp_path/'a')], against='unigram')


def test_a_broken_file_is_named(tmp_path):
    (tmp_path/'broken').mkdir(); (tmp_path/'broken'/'metrics.json').write_text('{"bpb')
    with pytest.raises(ValueError, match='broken'): measured([tmp_path/'broken'])
    with pytest.raises(ValueError, match='nowhere'): measured([tmp_path/'nowhere'])


def test_the_price_is_against_the_tokenizer_that_is_asked_for(tmp_path):
    "`bpb_ratio` is against its own baseline; against another one the price has to follow"
    metric = lambda v: dict(value=v, low=v*.99, high=v*1.01, budget='bytes', baseline='bpe')
    run = a_run(tmp_path/'a', **{'bpb/bpe': metric(1.5), 'bpb/unigram': metric(1.2), 'bpb/hyperlexemes': metric(1.4), 'bpb_ratio/unigram': metric(1.2/1.5), 'bpb_ratio/hyperlexemes': metric(1.4/1.5),
                                'ratio/unigram/hyperlexemes': metric(1.4)})
    assert measured([run])[1].value == pytest.approx(1.4/1.5)
    assert measured([run], against='unigram')[1].value == pytest.approx(1.4/1.2)


def test_the_committed_runs(root):
    r, price = measured(sorted((root/'runs'/'reference').glob('cpu-segmentation-bytes-*')))
    assert r.n == price.n == 3 and 1.15 < r.low < r.value < r.high < 1.3 and .97 < price.low < 1 < price.high < 1.02
    e = equivalence(70e9, 1.4e12, compression=r, price=price)
    assert e.multiplier.low < 2 and e.balanced.low < 80e9


def trainings(folder, law, sizes=(2e5, 1e6, 4e6, 2e7), texts=(1e6, 5e6, 3e7, 2e8)):
    folder.mkdir()
    (folder/'metrics.json').write_text(json.dumps({f'loss/{N:g}/{D:g}': dict(params=N, tokens=D, value=law.loss(N, D).value) for N in sizes for D in texts} | {'wall': dict(value=3)}), encoding='utf-8')
    return folder


def test_our_own_law_is_found_from_a_run(tmp_path):
    truth = Law(1.5, 300., 1200., .33, .37)
    law = own_law(trainings(tmp_path/'scaling-1', truth), draws=4)
    for N, D in ((1e6, 1e7), (1e7, 1e8)): assert law.loss(N, D).value == pytest.approx(truth.loss(N, D).value, rel=.01)
    assert '16 trainings' in law.source and 'scaling-1' in law.source and len(law.draws) == 4
    assert equivalence(1e8, m=2, law=law).law == law.source


def test_a_run_without_enough_trainings_says_how_to_make_one(tmp_path):
    (tmp_path/'broken').mkdir(); (tmp_path/'broken'/'metrics.json').write_text('{"a')
    for folder in (tmp_path/'nothing', tmp_path/'broken', trainings(tmp_path/'few', BESIROGLU, texts=(1e6, 1e7))):
        with pytest.raises(ValueError, match=f'{folder.name}: expected.*make .* with: hyperlex run nbs/experiments/scaling.ipynb'): own_law(folder)
