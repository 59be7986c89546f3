"The arithmetic of the seeds: whole rows, findings that follow from intervals, figures computed again here."
import math

import pytest
from hypothesis import given, settings, strategies as st

from hyperlex_nb.estimates import Estimate, _units
from hyperlex_nb.laws import LAWS, chinchilla
from hyperlex_nb.machines import mfu
from hyperlex_nb.pages import _measured
from hyperlex_nb.statements import Statement, statements


@pytest.fixture(scope='module')
def rows(): return statements()


def one(rows, claim, *words):
    found, = [s for s in rows if s.claim == claim and all(w in s.says for w in words)]
    return found


def test_every_row_is_whole(rows):
    assert len({s.says for s in rows}) == len(rows) >= 36 and [s.seed for s in rows] == sorted(s.seed for s in rows)
    for s in rows:
        assert s.seed in ('000', '001', '002', '003', '004') and s.claim in {f'C{i:02d}' for i in range(1, 24)} and s.says.strip() and s.why.strip()
        assert _units(s.claimed.unit) == _units(s.ours.unit) and s.ratio.unit == '', s.says
        for e in (s.claimed, s.ours, s.ratio): assert 0 < e.low <= e.value <= e.high < math.inf


def test_the_claims_that_are_the_planners_are_there(rows):
    assert {'C07', 'C08', 'C09', 'C10', 'C12', 'C13', 'C15', 'C17', 'C18', 'C19', 'C20', 'C21'} <= {s.claim for s in rows}


estimates = st.tuples(*[st.floats(1e-3, 1e6)]*3).map(sorted).map(lambda x: Estimate(x[1], x[0], x[2]))

@settings(max_examples=200, deadline=None)
@given(estimates, estimates)
def test_the_finding_follows_from_the_intervals(claimed, ours):
    s = Statement('000', 'C01', 'x', claimed, ours, 'y')
    apart = ours.low > claimed.high or ours.high < claimed.low
    assert s.finding.startswith('off by') == apart == (s.ratio.low > 1 or s.ratio.high < 1)
    if apart:
        factor = float(s.finding.removeprefix('off by ').removesuffix('x'))
        assert factor >= 1 and factor == pytest.approx(max(s.ratio.low, 1/s.ratio.high), rel=.5 if factor >= 1000 else .06)
    elif claimed.low <= ours.low and ours.high <= claimed.high: assert s.finding == 'agrees'


@pytest.mark.parametrize('claimed, ours, finding', [((5, 4, 6), (5, 4, 6), 'agrees'), ((5, 4, 6), (4.5, 4.1, 5), 'agrees'), ((5, 5, 5), (6, 4, 7), 'agrees'), ((5, 4, 6), (5, 3, 7), 'overlaps'), ((5, 4, 6), (8, 6, 9), 'overlaps'), ((5, 5, 5), (6, 6, 6), 'off by 1.2x'),
                                                    ((5, 4, 6), (20, 18, 22), 'off by 3x'), ((20, 18, 22), (5, 4, 6), 'off by 3x'), ((1, 1, 1), (1e9, 1e9, 1e9), 'off by 1e+09x')])
def test_findings(claimed, ours, finding): assert Statement('000', 'C01', 'x', Estimate(*claimed), Estimate(*ours), 'y').finding == finding


@pytest.mark.parametrize('claim, words, finding', [('C10', '', 'off by 3.2x'), ('C13', 'at most 1 a day', 'off by 5.5x'), ('C09', '', 'agrees'), ('C15', '70B equals 300B', 'off by'), ('C15', '70B equals 1000B', 'off by'), ('C18', 'a token of GPT', 'off by 1e+09x'), ('C13', '100 million pages', 'off by'), ('C20', 'A100, training 70B', 'off by'), ('C20', 'A100, training 200B', 'off by')])
def test_known_findings(rows, claim, words, finding): assert one(rows, claim, words).finding.startswith(finding)


def ends(e): return e.low, e.value, e.high


def test_plain_arithmetic(rows):
    assert ends(one(rows, 'C10').ours) == pytest.approx((365.25/7*30, 1.5*365.25/7*30, 2*365.25/7*30))
    assert ends(one(rows, 'C13', 'a day').ours) == pytest.approx((20_000/3652.5, 30_000/3652.5, 40_000/3652.5))
    assert ends(one(rows, 'C20', 'characters of a line').ours) == pytest.approx((500,)*3)
    lines = one(rows, 'C20', '1 TB is 1e9 lines') if sum('1 TB is 1e9 lines' in s.says for s in rows) == 1 else next(s for s in rows if s.says == '1 TB is 1e9 lines')
    assert ends(lines.ours) == pytest.approx((1e12/1000, 1e12/600, 1e12/200))
    assert ends(one(rows, 'C06').ours) == pytest.approx((3*2*1.5*3, math.sqrt(27_000), 10*5*2*10))
    assert ends(one(rows, 'C18', 'hypertoken').ours) == pytest.approx((60e9, 140e9, 400e9))


def test_arithmetic_on_the_measured_ratios(rows):
    m = {k: v['value'] for k, v in _measured()['opencorpora'].items()}
    page = m['byte/page']/m['byte']*m['cl100k']
    for n, words in ((1e6, '1 million pages'), (1e8, '100 million pages'), (1e10, '10 billion pages')):
        s, = [s for s in rows if s.claim == 'C12' and s.says.startswith(words)]
        assert s.ours.value == pytest.approx(n*page)
    gain = m['cl100k']/m['hyperlexemes-64000']
    assert one(rows, 'C08', 'a context of 32K').ours.value == pytest.approx(gain) and one(rows, 'C17', 'operations of attention').ours.value == pytest.approx(gain**2)
    assert one(rows, 'C08', 'bytes of a token').ours.value == pytest.approx(m['byte']/m['cl100k'])
    assert one(rows, 'C16', '20-100').ours.value == pytest.approx(m['cl100k']*m['word/sentence']) and one(rows, 'C16', '1-4').ours.value == pytest.approx(m['hyperlexemes-64000']*m['word/sentence'])
    chars = m['byte']/m['byte/page']*1800
    assert ends(one(rows, 'C19').ours) == pytest.approx((chars*.6/math.log2(33), chars/math.log2(33), m['byte']*m['bit/byte']/math.log2(33)))
    pages = 30_000*1.97e9/28_602*.9*m['byte']/m['byte/page']
    assert one(rows, 'C13', '100 million pages').ours.value == pytest.approx(pages)
    assert one(rows, 'C08', '800 GB become').ours.high == pytest.approx(800/m['byte/page']*1800/8)


def test_arithmetic_of_models(rows):
    assert one(rows, 'C17', 'weights and cache').ours.value == pytest.approx((2*80*8*128*2*200_000 + 2*70_553_706_496)/1e9)
    matrices, attention = 80*(2*8192*8192 + 2*8192*1024 + 3*8192*28_672) + 128_256*8192, 80*8192
    r = (_measured()['opencorpora']['cl100k']['value']/_measured()['opencorpora']['hyperlexemes-64000']['value'])
    assert one(rows, 'C17', 'whole model').ours.value == pytest.approx(r*(2*matrices + 4*attention*200_000)/(2*matrices + 4*attention*200_000/r))
    law = chinchilla()
    room = law.loss(175e9, 300e9).value - law.E - law.A/30e9**law.alpha
    assert one(rows, 'C07').ours.value == pytest.approx(30e9*(law.B/room)**(1/law.beta)/(175e9*300e9))
    assert one(rows, 'C15', '70B equals 300B').claimed.value == pytest.approx((300/70)**((law.alpha + law.beta)/law.beta))


def test_arithmetic_of_machines(rows):
    month = 365.25/12*86400
    for s, N, gpus, peak in ((one(rows, 'C20', 'A100, training 70B'), 70e9, 16, 312e12), (one(rows, 'C20', 'A100, training 200B'), 200e9, 16, 312e12), (one(rows, 'C20', 'H100', 'training 70B'), 70e9, 256, 989.4e12)):
        share = mfu('H100' if gpus == 256 else 'A100')
        assert ends(s.ours) == pytest.approx((6*N*1e12/6/(gpus*peak*share.high)/month, 6*N*1e12/4/(gpus*peak*share.value)/month, 6*N*1e12/2/(gpus*peak*share.low)/month))
    share = mfu('A100')
    days = [4*70e9*lines*300*2/4/(16*312e12*x)/86400 for lines, x in ((1e7, share.high), (1e8, share.low))]
    assert (one(rows, 'C21').ours.low, one(rows, 'C21').ours.high) == pytest.approx(days)


def test_another_law_changes_what_follows_from_laws_alone(rows):
    changed = [s.says for s, o in zip(statements(LAWS['hoffmann']), rows) if s != o]
    assert len(changed) >= 4 and all('equals' in c or 'GPT-3' in c for c in changed)
