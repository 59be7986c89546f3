"The experiments of the multiplier: made-up trainings with a known factor give that factor; a sweep finds the better recipe; an experiment without its inputs says what to run first."
import json
from pathlib import Path
import numpy as np, pytest
from hyperlex_nb.curves import Curve, Trained
from hyperlex_nb.runs import execute

ROOT = Path(__file__).resolve().parent.parent
TRUE = Curve(.6, 80., .17)


def architecture_run(folder, seed, factors, works=30):
    "The folder of an architecture run whose arms were made from one curve"
    rng, metrics = np.random.default_rng(seed), {}
    taste = np.random.default_rng(99).normal(1, .1, works)
    for arm, (factor, budgets) in factors.items():
        for b in budgets:
            t = Trained(b, seed, dict(flops=b, seconds=b/1e10, bytes=b/1e6, inference=1e4*b**.2, params=1e5), {f'w{i}': (float(TRUE.bits(b*factor)*(1 + rng.normal(0, .002))*taste[i]*10_000), 10_000) for i in range(works)})
            metrics[f'bpb/{arm}/{b:.3g}'] = dict(value=t.bpb, unit='bits/byte', n=works, arm=arm, recipe='made up', **t.facts())
    folder.mkdir(parents=True)
    (folder/'metrics.json').write_text(json.dumps(metrics))
    (folder/'manifest.json').write_text(json.dumps(dict(id=folder.name, notebook='architecture', status='finished', profile='smoke', seed=seed, started=f'2026-01-0{seed + 1}T00:00:00', notes=dict(corpus='made up'), parameters={})))


def test_known_factors_come_out(tmp_path):
    budgets = [2.5e11, 1e12, 4e12, 1.6e13]
    for seed in range(3): architecture_run(tmp_path/f'a{seed}', seed, dict(llama=(1, budgets), core=(4, budgets[:2]), variant=(.5, budgets[1:3])))
    run = execute(ROOT/'nbs'/'experiments'/'multiplier.ipynb', dict(draws=100, lengths='3e3'), runs_dir=tmp_path, name='m')
    assert run.status == 'finished', run.manifest.get('error')
    m = run.metrics
    for b in '2.5e+11', '1e+12':
        assert m[f'multiplier/flops/core/{b}']['low'] <= 4.1 and m[f'multiplier/flops/core/{b}']['high'] >= 3.9 and m[f'multiplier/flops/core/{b}']['inside']
        assert m[f'multiplier/seconds/core/{b}']['value'] == pytest.approx(m[f'multiplier/flops/core/{b}']['value'], rel=1e-6)
    assert m['multiplier/flops/variant/4e+12']['value'] == pytest.approx(.5, rel=.1) and m['multiplier']['n'] == 3
    assert m['multiplier_trend']['low'] < .05 and m['multiplier_trend']['high'] > -.05, 'made with one factor at all budgets'
    assert 1 < m['positions/3000']['value'] < 10 and m['attention/3000']['value'] == pytest.approx(m['positions/3000']['value']**2)


@pytest.mark.parametrize('name, kw, says', [('multiplier', {}, 'run nbs/experiments/architecture.ipynb first'), ('architecture', dict(corpus='corpus'), 'run nbs/experiments/sweep.ipynb for llama and for core first')])
def test_without_inputs_it_says_what_to_run(material, tmp_path, name, kw, says):
    run = execute(ROOT/'nbs'/'experiments'/f'{name}.ipynb', {k: str(material/v) for k, v in kw.items()}, runs_dir=tmp_path, name=name)
    assert run.status == 'failed' and says in run.manifest['error']


def test_a_sweep_finds_the_better_recipe(material, tmp_path):
    lines = 'llama 300 32x1 32x4 muon_lr=1e-9 embed_lr=1e-9;llama 300 32x1 32x4'
    run = execute(ROOT/'nbs'/'experiments'/'sweep.ipynb', dict(corpus=str(material/'corpus'), architectures='llama', budgets='1e9', recipes=lines, works=3), runs_dir=tmp_path, name='s')
    assert run.status == 'finished', run.manifest.get('error')
    best = run.metrics['best/llama/1e+09']
    assert best['recipe'] == 'llama 300 32x1 32x4' and best['budget'] == 1e9 and len([k for k in run.metrics if k.startswith('bpb/')]) == 2
