"Scaling laws: the published refit and its consequences, known coefficients found again, one error for nonsense."
import math

import numpy as np
import pytest

from hyperlex_nb import laws
from hyperlex_nb.laws import LAWS, Law, chinchilla, effective_tokens, fit

HOFFMANN, PUBLISHED = LAWS['hoffmann'], LAWS['besiroglu']


def test_the_points_are_whole():
    N, D, loss = laws._points(0)
    assert len(N) == 245 and 5e7 < N.min() and N.max() < 2e10 and 1.9 < loss.min() and loss.max() < 5.1
    assert len(laws._points()[0]) == 240 and laws._points()[2].max() < 3.5


@pytest.mark.parametrize('name, off', [('E', .01), ('A', .01), ('alpha', .01), ('beta', .01), ('B', .03)])
def test_the_refit_is_the_published_one(name, off):
    "B lies in a valley with beta: another point of it fits a little better than the published"
    ours = chinchilla()
    assert abs(getattr(ours, name)/getattr(PUBLISHED, name) - 1) < off
    low, high = np.quantile(ours.draws[:, 'E A B alpha beta'.split().index(name)], [.025, .975])
    assert low < getattr(PUBLISHED, name) < high


def test_no_published_law_fits_the_points_better():
    N, D, loss = laws._points()
    def misfit(l): return laws._misfit(np.array([math.log(l.A), math.log(l.B), math.log(l.E), l.alpha, l.beta]), *map(np.log, (N, D, loss)), np.ones(len(N)), 1e-3)[0]
    assert misfit(chinchilla()) <= misfit(PUBLISHED) < misfit(HOFFMANN)/3


def test_hoffmanns_coefficients_lie_outside_the_interval():
    low, high = np.quantile(chinchilla().draws[:, 0], [.025, .975])
    assert not low < HOFFMANN.E < high


@pytest.mark.parametrize('law, D, times', [(HOFFMANN, 1.4e12, 2.2), (PUBLISHED, 1.4e12, 4.7), (PUBLISHED, 15e12, math.inf)])
def test_what_a_70b_needs_to_match_300b(law, D, times):
    m = law.tokens_to_match(70e9, 300e9, D)
    assert m.value == math.inf == times or abs(m.value/D - times) < .05
    assert m.possible == (times < math.inf)


def test_matched_tokens_give_the_references_loss():
    m = chinchilla().tokens_to_match(70e9, 300e9, 1.4e12)
    assert math.isclose(chinchilla().loss(70e9, m.value).value, chinchilla().loss(300e9, 1.4e12).value)
    assert m.low < m.value < m.high and .9 < m.possible <= 1
    assert math.isclose(chinchilla().tokens_to_match(1e9, 1e9, 2e10).value, 2e10)


@pytest.mark.parametrize('C', [1e18, 5.76e23, 1e27])
@pytest.mark.parametrize('law', LAWS.values(), ids=list(LAWS))
def test_the_optimum_is_one_and_spends_the_budget(law, C):
    N, D, L = law.optimum(C)
    assert math.isclose(6*N.value*D.value, C) and (N.unit, D.unit, L.unit) == ('parameter', 'token', 'nat/token')
    around = [law.loss(N.value*k, D.value/k).value for k in (.2, .9, .99, 1.01, 1.1, 5)]
    assert min(around) > L.value and around[0] > around[1] > around[2] and around[3] < around[4] < around[5]


def test_twenty_tokens_for_each_parameter_at_chinchillas_budget():
    N, D, _ = chinchilla().optimum(5.76e23)
    assert 15 < D.value/N.value < 25 and N.low < 70e9 < N.high


def test_intervals_cover_a_known_law():
    N, D, _ = laws._points()
    truth, rng, hits = Law(1.7, 300., 1500., .33, .36), np.random.default_rng(0), 0
    for _ in range(12):
        found = fit(N, D, laws._loss(truth._all[0], N, D)*np.exp(rng.normal(0, .003, len(N))), draws=30)
        L = found.loss(1e9, 2e10)
        hits += L.low <= truth.loss(1e9, 2e10).value <= L.high
        assert abs(found.E/truth.E - 1) < .05
    assert hits >= 8


def test_the_bootstrap_repeats_itself():
    N, D, loss = laws._points()
    a, b, c = (fit(N, D, loss, draws=3, seed=s).draws for s in (1, 1, 2))
    assert (a == b).all() and (a != c).any()


@pytest.mark.parametrize('passes, worth', [(1, 1), (2, 1.97), (4, 3.73), (1e6, 1 + 15.387756)])
def test_repeated_text(passes, worth):
    assert abs(effective_tokens(passes*1e9, 1e9)/1e9 - worth) < .01
    assert effective_tokens(5e8, 1e9) == 5e8 == effective_tokens(5e8)


BAD = [-1, 0, float('nan'), float('inf'), 1e40, None, 'много', True]

@pytest.mark.parametrize('call, name', [(lambda x: HOFFMANN.loss(x, 1e9), 'N'), (lambda x: HOFFMANN.loss(1e9, x), 'D'), (lambda x: HOFFMANN.optimum(x), 'C'),
                                        (lambda x: HOFFMANN.tokens_to_match(x, 1e9, 1e9), 'N'), (lambda x: effective_tokens(x), 'D'), (lambda x: effective_tokens(1e9, x or 0), 'unique'),
                                        (lambda x: Law(1.7, x, 1, 1, 1), 'A')])
@pytest.mark.parametrize('bad', BAD, ids=str)
def test_one_error_names_the_parameter_and_its_range(call, name, bad):
    with pytest.raises(ValueError, match=f'{name}=.*expected a number from .* to '): call(bad)


@pytest.mark.parametrize('spoil', [lambda N, D, L: (N[:9], D[:9], L[:9]), lambda N, D, L: (N, D[1:], L), lambda N, D, L: (N, D, -L), lambda N, D, L: (N*0 + 1e9, D, L),
                                   lambda N, D, L: (N, D, L*np.nan)])
def test_points_that_determine_nothing_are_refused(spoil):
    with pytest.raises(ValueError, match='at least 10'): fit(*spoil(*laws._points()))
