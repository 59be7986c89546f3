"The multiplier of a candidate made from the baseline's own curve is the factor it was made with."
import math
import numpy as np, pytest
from hyperlex_nb.curves import Curve, Trained, _fit, multipliers

TRUE = Curve(.6, 80., .17)
TEXTS = {f'w{i}': int(n) for i, n in enumerate(np.random.default_rng(1).integers(5_000, 20_000, 50))}
TASTE = dict(zip(TEXTS, np.random.default_rng(2).normal(1, .1, 50)))


def made(factor, budgets, noise=.002, seeds=3, seed=0):
    rng = np.random.default_rng(seed)
    return [Trained(b, s, dict(flops=b, seconds=b/1e10), {w: (float(TRUE.bits(b*factor)*(1 + rng.normal(0, noise))*TASTE[w]*n), n) for w, n in TEXTS.items()}) for b in budgets for s in range(seeds)]

BUDGETS = [2.5e11, 1e12, 4e12, 1.6e13]


def test_the_fit_finds_a_curve_without_noise_and_one_without_floor():
    C = np.geomspace(1e11, 1e15, 6)
    for true in TRUE, Curve(0, 12., .08):
        found = _fit(C, true.bits(C))
        assert np.allclose(found.bits(C), true.bits(C), rtol=1e-3) and found.cost(true.bits(3e12)) == pytest.approx(3e12, rel=.03)
    assert math.isinf(_fit(C, TRUE.bits(C)).cost(.3)), 'below the floor no budget is enough'


@pytest.mark.parametrize('factor', [.5, 1, 2, 5])
def test_a_known_factor_lies_in_a_narrow_interval(factor):
    found = multipliers(made(1, BUDGETS), made(factor, BUDGETS[:2], seed=5), draws=200)
    for m in found: assert m.low <= factor*1.01 and m.high >= factor*.99 and m.high/m.low < 1.2 and m.seeds == 3
    assert [m.inside for m in found] == [True, True] or factor < 1


def test_the_interval_covers():
    "Twenty experiments with noise: the truth lies inside nearly always."
    hits = sum(m.low <= 2 <= m.high for s in range(20) for m in multipliers(made(1, BUDGETS, .01, seed=100 + s), made(2, [1e12], .01, seed=200 + s), draws=150))
    assert 14 <= hits


def test_beyond_the_points_of_the_baseline_it_says_so():
    m, = multipliers(made(1, BUDGETS), made(4, [1.6e13]), draws=50)
    assert not m.inside and 'beyond' in str(m)


def test_other_units_and_a_round_trip_through_a_metric():
    base, ours = made(1, BUDGETS), made(3, BUDGETS[:2], seed=7)
    a, b = multipliers(base, ours, draws=50), multipliers(base, ours, 'seconds', draws=50)
    assert [m.value for m in a] == pytest.approx([m.value for m in b], rel=1e-6)
    again = multipliers([Trained.read(t.facts()) for t in base], [Trained.read(t.facts()) for t in ours], draws=50)
    assert [m.value for m in again] == pytest.approx([m.value for m in a], rel=1e-3)


def test_what_cannot_be_compared():
    base = made(1, BUDGETS)
    with pytest.raises(ValueError, match='different works'): multipliers(base, [Trained(1e12, 0, dict(flops=1e12), {'x': (1., 1)})])
    with pytest.raises(ValueError, match='at least 4 budgets'): multipliers(base[:9], base)
    with pytest.raises(ValueError, match='no finished training'): multipliers(base, [])
    with pytest.raises(ValueError, match='draws'): multipliers(base, base, draws=0)
