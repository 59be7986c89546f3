"The experiments behind the planner: the committed numbers are made again, and a grid of small trainings becomes points of a law."
import json, math
from pathlib import Path

import pytest

from hyperlex_nb.equivalence import own_law
from hyperlex_nb.runs import execute

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT/'runs'/'reference'


def test_the_committed_equivalence_is_made_again(tmp_path):
    folders = ','.join(str(p) for p in sorted(REFERENCE.glob('cpu-segmentation-[bf]*')))
    run = execute(ROOT/'nbs'/'experiments'/'equivalence.ipynb', dict(draws=20, segmentation=folders, scaling=str(REFERENCE/'cpu-scaling'), architecture=str(REFERENCE/'cpu-multiplier')), runs_dir=tmp_path, name='again')
    assert run.status == 'finished'
    was, now = (json.loads((p/'metrics.json').read_text(encoding='utf-8')) for p in (REFERENCE/'cpu-equivalence', tmp_path/'again'))
    assert set(was) - set(now) <= {'multiplier_if_bits_keep/flops', 'multiplier_if_bits_keep/bytes'} # of few draws one may have no end
    for name in now: assert math.isclose(now[name]['value'], was[name]['value'], rel_tol=1e-3), name


def test_without_any_run_the_best_published_multiplier_is_taken(tmp_path):
    run = execute(ROOT/'nbs'/'experiments'/'equivalence.ipynb', dict(draws=20), runs_dir=tmp_path, name='alone')
    m = json.loads((tmp_path/'alone'/'metrics.json').read_text(encoding='utf-8'))
    assert run.status == 'finished' and (m['multiplier']['low'], m['multiplier']['high']) == (2, 2.5) and 'none of ours is measured' in m['multiplier']['how']


def test_a_grid_of_trainings_becomes_points(material, tmp_path):
    run = execute(ROOT/'nbs'/'experiments'/'scaling.ipynb', dict(corpus=str(material/'corpus'), tokenizer=str(material/'tok'), sizes='32x1', tokens='2e3,4e3', context=32, batch=4, micro=4, works=3, draws=0), runs_dir=tmp_path, name='grid')
    assert run.status == 'finished', run.manifest.get('error')
    m = json.loads((tmp_path/'grid'/'metrics.json').read_text(encoding='utf-8'))
    small, large = (m[f'loss/32x1-{d}'] for d in ('2e+03', '4e+03'))
    assert small['params'] == large['params'] and 1.9 < large['tokens']/small['tokens'] < 2.1 and 0 < large['value'] < 12
    assert math.isclose(large['value'], large['bpb']*math.log(2)*m['bytes_per_token']['value'])
    with pytest.raises(ValueError, match='grid: expected at least 10 trainings, got 2'): own_law(tmp_path/'grid')
