import errno, json, os, signal, subprocess, sys, time
from pathlib import Path
import pytest
import numpy as np
from hyperlex_nb.runs import Run, _check, _command, _convert, _hash, atomic, execute, launch, progress, ratio_interval, slurm


# ---- parameters

@pytest.mark.parametrize('params, message', [
    ({'N': 10}, "did you mean 'n'"), ({'zzz': 1}, 'It accepts: n, rate, on, name, maybe, many, profile'), ({'n': 'ten'}, 'parameter n'), ({'n': '2.5'}, 'not of type int'), ({'n': True}, 'int'),
    ({'n': None}, 'None is not accepted'), ({'n': 'inf'}, 'int'), ({'n': 'nan'}, 'int'), ({'rate': 'fast'}, 'parameter rate'), ({'on': 'perhaps'}, 'parameter on'), ({'many': '{1: 2}'}, 'list'),
    ({'many': '__import__("os")'}, 'list'), ({'profile': 'huge'}, 'not one of smoke'), ({'name': 3}, 'str')])
def test_wrong_parameters_are_refused_before_anything_runs(notebook, tmp_path, params, message):
    nb = notebook('p', "n: int = 3  # a\nrate: float = .5  # b\non: bool = False  # c\nname = 'x'\nmaybe: int = None  # d\nmany: list = [1]  # e\nprofile: str = 'smoke'  # f", "print(1)")
    with pytest.raises(ValueError, match=message.replace('(', r'\(')): execute(nb, params, runs_dir=tmp_path/'runs')
    assert not (tmp_path/'runs').exists()


def test_text_becomes_the_declared_type(notebook):
    nb = notebook('p', "n: int = 3  # a\nrate: float = .5  # b\non: bool = False  # c\nname = 'x'\nmaybe: int = None  # d\nmany: list = [1]  # e")
    assert _check(nb, dict(n='1e6', rate='3', on='True', name='7', maybe='5', many='[1, 2]')) == dict(n=10**6, rate=3., on=True, name='7', maybe=5, many=[1, 2])
    assert _check(nb, dict(maybe='None'))['maybe'] is None
    assert _convert('n', '12345678901234567890', 'int', 0) == 12345678901234567890  # no detour through a float


# ---- files

def test_atomic_keeps_the_old_version_when_the_writer_fails(tmp_path):
    (tmp_path/'d').mkdir(); (tmp_path/'d'/'a').write_text('old'); (tmp_path/'f').write_text('old')
    for target, write in (tmp_path/'f', lambda t: t.write_text('half')), (tmp_path/'d', lambda t: (t.mkdir(), (t/'a').write_text('half'))):
        with pytest.raises(RuntimeError):
            with atomic(target) as t: write(t); raise RuntimeError
    assert (tmp_path/'f').read_text() == (tmp_path/'d'/'a').read_text() == 'old'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['d', 'f']
    with atomic(tmp_path/'d') as t: t.mkdir(); (t/'b').write_text('new')
    assert [p.name for p in (tmp_path/'d').iterdir()] == ['b']


def test_what_a_killed_writer_left_is_mended_by_the_next(tmp_path):
    code = f"""
import os
from pathlib import Path
from hyperlex_nb import runs
def die(*a): os.kill(os.getpid(), 9)
with runs.atomic(Path({str(tmp_path)!r})/'f') as t: t.write_text('half'); die()"""
    assert subprocess.run([sys.executable, '-c', code]).returncode == -9 and len(list(tmp_path.iterdir())) == 1
    with atomic(tmp_path/'f') as t: t.write_text('new')
    assert [p.name for p in tmp_path.iterdir()] == ['f']
    code = f"""
import os
from pathlib import Path
from hyperlex_nb import runs
path = Path({str(tmp_path)!r})/'d'
path.mkdir(); (path/'a').write_text('old')
rename = Path.rename
def once(self, to): rename(self, to); os.kill(os.getpid(), 9)  # between the two renames
Path.rename = once
with runs.atomic(path) as t: t.mkdir()"""
    assert subprocess.run([sys.executable, '-c', code]).returncode == -9 and not (tmp_path/'d').exists()
    with pytest.raises(RuntimeError):
        with atomic(tmp_path/'d') as t: raise RuntimeError
    assert (tmp_path/'d'/'a').read_text() == 'old' and sorted(p.name for p in tmp_path.iterdir()) == ['d', 'f']


def test_full_disk_is_one_clear_error_and_loses_nothing(small_disk):
    (small_disk/'f').write_text('old')
    with pytest.raises(OSError, match='cannot write f: the disk is full') as e:
        with atomic(small_disk/'f') as t: t.write_bytes(bytes(3 << 20))
    assert e.value.errno == errno.ENOSPC and (small_disk/'f').read_text() == 'old' and len(list(small_disk.iterdir())) == 1


def test_full_disk_under_a_run(small_disk, notebook):
    nb = notebook('big', "n: int = 3", "from hyperlex_nb.runs import Run, atomic\nrun = Run.current(); run.log('before', 1)\nwith atomic(run.output('x')) as t: t.write_bytes(bytes(n << 20))")
    run = execute(nb, runs_dir=small_disk/'runs', name='r')
    assert run.status == 'failed' and 'disk is full' in run.manifest['error'] and run.metrics['before']['value'] == 1


def test_runs_folder_that_cannot_be_written(tmp_path, notebook):
    nb = notebook('p', "n: int = 3")
    (tmp_path/'file').write_text('x')
    with pytest.raises(OSError, match='choose another folder'): execute(nb, runs_dir=tmp_path/'file'/'runs')
    ro = tmp_path/'ro'; ro.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', str(ro)], capture_output=True).returncode: pytest.skip('mounting is not permitted here')
    try:
        with pytest.raises(OSError, match='cannot write'): execute(nb, runs_dir=ro/'runs')
    finally: subprocess.run(['umount', '-l', str(ro)])


def test_hash_sees_names_and_bytes_but_not_dates(tmp_path):
    d = tmp_path/'d'; (d/'s').mkdir(parents=True); (d/'a').write_text('1'); (d/'s'/'b').write_text('2')
    h = _hash(d)
    (d/'manifest.json').write_text('{"started": "now"}')
    assert _hash(d) == h
    (d/'s'/'b').write_text('3'); changed = _hash(d)
    (d/'s'/'b').write_text('2'); (d/'a').rename(d/'c')
    assert len({h, changed, _hash(d)}) == 3
    with pytest.raises(FileNotFoundError, match='does not exist'): _hash(tmp_path/'none')


def test_two_inputs_of_one_name_both_stay_in_the_manifest(tmp_path):
    for where in 'ab': (tmp_path/where/'corpus').mkdir(parents=True); (tmp_path/where/'corpus'/'x').write_text(where)
    run = Run(tmp_path/'run')
    for where in 'aba': run.input(tmp_path/where/'corpus')
    assert {k: v['sha256'] for k, v in run.manifest['inputs'].items()} == {'corpus': _hash(tmp_path/'a'/'corpus'), 'b/corpus': _hash(tmp_path/'b'/'corpus')}


# ---- the runner

def test_a_run_leaves_everything_a_sceptic_asks_for(notebook, tmp_path):
    (tmp_path/'in.txt').write_text('тишина', encoding='utf-8')
    nb = notebook('ok', "n: int = 3  # a\nseed: int = 7  # s\nprofile: str = 'smoke'  # p",
        f"from hyperlex_nb.runs import Run\nimport matplotlib.pyplot as plt\nrun = Run.current()\nrun.input({str(tmp_path/'in.txt')!r}); run.note(corpus='none')\n"
        "size = run.sizes(profile, dict(smoke=dict(w=2)), w=None)\nrun.log('x', n * size.w, 'words', low=5, high=7, n=3)\nrun.figure(plt.figure(), 'f');")
    run = execute(nb, {'n': '4'}, runs_dir=tmp_path/'runs', name='r')
    m = run.manifest
    assert run.status == 'finished' and m['parameters'] == dict(n=4, seed=7, profile='smoke') and (m['seed'], m['profile'], m['sizes']) == (7, 'smoke', dict(w=2))
    assert len(m['inputs']['in.txt']['sha256']) == 64 and m['versions']['torch'] and m['device'] and m['wall_s'] > 0 and m['finished'] >= m['started'] and 'commit' in m['git']
    assert run.metrics['x'] == dict(value=8, unit='words', low=5, high=7, n=3) and (run.path/'figures'/'f.png').stat().st_size > 1000 and (run.path/'notebook.ipynb').exists()
    with pytest.raises(ValueError, match='already'): execute(nb, runs_dir=tmp_path/'runs', name='r')


def test_live_lines_and_the_error_of_a_failed_cell(notebook, tmp_path, capsys):
    run = execute(notebook('bad', "n: int = 3", "print('раз\\nдва', flush=True)", "1 / 0", "print('never')"), runs_dir=tmp_path/'runs')
    out = capsys.readouterr().out
    assert 's] раз\n' in out and 's] два\n' in out and 'never' not in out
    assert run.status == 'failed' and 'ZeroDivisionError: division by zero' in run.manifest['error']


def test_a_killed_kernel_ends_the_run_at_once(notebook, tmp_path):
    start = time.time()
    run = execute(notebook('dead', "n: int = 3", "import os; os.kill(os.getpid(), 9)"), runs_dir=tmp_path/'runs')
    assert run.status == 'failed' and 'kernel died' in run.manifest['error'] and time.time() - start < 60


def test_a_killed_runner_is_never_running_and_can_be_resumed(notebook, tmp_path):
    nb = notebook('slow', "n: int = 3  # a", "import time, os\nfrom hyperlex_nb.runs import Run\nflag = Run.current().output('flag')\nif not flag.exists(): flag.touch(); time.sleep(100)\nRun.current().log('x', n)")
    code = f"from hyperlex_nb.runs import execute; execute({str(nb)!r}, {{'n': 5}}, runs_dir={str(tmp_path/'runs')!r}, name='r')"
    child = subprocess.Popen([sys.executable, '-c', code])
    run = Run(tmp_path/'runs'/'r')
    while not (run.path/'flag').exists(): time.sleep(.1)
    assert run.status == 'running'
    with pytest.raises(ValueError, match='still running'): execute(resume='r', runs_dir=tmp_path/'runs')
    child.kill(); child.wait()
    assert run.status == 'failed' and 'runner died' in run.manifest['error'] and Run.table(tmp_path/'runs')[0]['status'] == 'failed'
    again = execute(resume='r', runs_dir=tmp_path/'runs')
    assert again.status == 'finished' and again.metrics['x']['value'] == 5 and again.manifest['attempts'] == 2 and not again.manifest['error']


def test_resume_refuses_what_would_not_be_the_same_run(notebook, tmp_path, capsys):
    nb = notebook('r', "n: int = 3", "1 / 0")
    execute(nb, runs_dir=tmp_path/'runs', name='r')
    nb = notebook('r', "n: int = 3", "1 / 1")
    with pytest.raises(ValueError, match='has changed since'): execute(resume='r', runs_dir=tmp_path/'runs')
    with pytest.raises(ValueError, match='no run'): execute(resume='none', runs_dir=tmp_path/'runs')
    execute(nb, runs_dir=tmp_path/'runs', name='done')
    assert execute(resume='done', runs_dir=tmp_path/'runs').manifest['attempts'] == 1


def test_latest_prefers_finished_runs_and_says_how_to_make_one(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv('HYPERLEX_RUNS', str(tmp_path/'runs'))
    good, bad = notebook('stage', "n: int = 3", "from hyperlex_nb.runs import Run; Run.current().output('a').write_text(str(n))"), None
    for n in 1, 2: execute(good, {'n': n}, runs_dir=tmp_path/'runs', name=f'r{n}'); time.sleep(1.1)
    execute(notebook('stage', "n: int = 3", "from hyperlex_nb.runs import Run; Run.current().output('a').write_text('bad'); 1 / 0"), runs_dir=tmp_path/'runs', name='r3')
    assert Run.latest('stage', 'a').read_text() == '2'
    with pytest.raises(FileNotFoundError, match='hyperlex run nbs/experiments/other.ipynb'): Run.latest('other')
    (tmp_path/'runs'/'r2'/'manifest.json').write_text('{"id": ')  # cut in half
    assert Run.latest('stage', 'a').read_text() == '1' and len(Run.table(tmp_path/'runs')) == 2


def test_pooled_takes_the_mean_and_the_widest_interval_of_what_all_have(tmp_path):
    runs = [Run(tmp_path/str(n)) for n in range(3)]
    for n, r in enumerate(runs):
        r.path.mkdir()
        r.log('bpb', 1 + n, 'bits/byte', n, 10 - n, n=5, chance=.5*n, baseline='gpt2')
        r.log('steps', n)
    runs[1].log('only here', 1.)
    m = Run.pooled(runs)
    assert set(m) == {'bpb', 'steps'} and 'low' not in m['steps'] and m['steps']['value'] == 1
    assert {k: m['bpb'][k] for k in ('value', 'low', 'high', 'chance', 'unit', 'baseline')} == dict(value=2, low=0, high=10, chance=.5, unit='bits/byte', baseline='gpt2')
    assert Run.pooled(iter(runs[:1]))['bpb']['value'] == 1 and Run.pooled([]) == {}
    runs[2].log('bpb', 3, 'nats/token')
    with pytest.raises(ValueError, match='bpb: units bits/byte, nats/token cannot be pooled'): Run.pooled(runs)


def test_table_filters_and_diff(notebook, tmp_path):
    nb = notebook('t', "n: int = 3", "from hyperlex_nb.runs import Run; Run.current().log('x', n * 2)")
    for n in 1, 2: execute(nb, {'n': n}, runs_dir=tmp_path/'runs', name=f'r{n}')
    assert [r['id'] for r in Run.table(tmp_path/'runs', where=['p.n=2', 'status=finished'], show=['x'])] == ['r2']
    assert Run(tmp_path/'runs'/'r1').diff(Run(tmp_path/'runs'/'r2')) == {'p.n': (1, 2), 'x': (2, 4)}


def test_a_kept_run_is_small_and_listed(notebook, tmp_path):
    nb = notebook('k', "n: int = 3  # a", "from hyperlex_nb.runs import Run; r = Run.current(); r.log('x', n); r.output('weights').write_bytes(bytes(10**6))")
    run = execute(nb, runs_dir=tmp_path/'runs', name='r')
    kept = run.keep('cpu', tmp_path/'runs')
    assert kept.id == 'reference/cpu' and kept.metrics == run.metrics and sorted(p.name for p in kept.path.iterdir()) == ['manifest.json', 'metrics.json']
    assert [r['id'] for r in Run.table(tmp_path/'runs')] == ['r', 'reference/cpu'] or [r['id'] for r in Run.table(tmp_path/'runs')] == ['reference/cpu', 'r']
    (run.path/'manifest.json').write_text((run.path/'manifest.json').read_text().replace('finished"', 'failed"', 1))
    with pytest.raises(ValueError, match='only a finished run'): run.keep('cpu', tmp_path/'runs')
    assert kept.metrics['x']['value'] == 3


# ---- children

def _module(tmp_path, code):
    (tmp_path/'child_module.py').write_text(code); return {**os.environ, 'PYTHONPATH': str(tmp_path)}


def test_launch_reports_how_a_child_died(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('PYTHONPATH', str(tmp_path)); monkeypatch.delenv('HYPERLEX_LAUNCH', raising=False)
    _module(tmp_path, "import os, sys; print('line', sys.argv[1]); os.kill(os.getpid(), 9)")
    with pytest.raises(RuntimeError, match='killed by signal 9'): launch('child_module', 'c.json')
    assert 'line c.json' in capsys.readouterr().out
    _module(tmp_path, "raise SystemExit('no such corpus')")
    with pytest.raises(RuntimeError, match='no such corpus'): launch('child_module', 'c.json')


def test_a_child_ends_when_its_launcher_is_killed(tmp_path):
    env = _module(tmp_path, "import os, time, pathlib\nfrom hyperlex_nb.runs import _watch_launcher\n_watch_launcher()\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(100)")
    env.pop('HYPERLEX_LAUNCH', None)
    parent = subprocess.Popen([sys.executable, '-c', "from hyperlex_nb.runs import launch; launch('child_module', 'c')"], cwd=tmp_path, env=env)
    while not (tmp_path/'pid').exists() or not (tmp_path/'pid').read_text(): time.sleep(.1)
    pid = int((tmp_path/'pid').read_text())
    parent.kill(); parent.wait()
    import psutil
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE: break
        time.sleep(.1)
    else: pytest.fail('the child outlived its launcher')


def test_command_lines(monkeypatch):
    monkeypatch.delenv('SLURM_JOB_ID', raising=False)
    assert _command('m', 'c')[1:] == ['-m', 'm', 'c']
    assert '--nproc-per-node=4' in _command('m', 'c', gpus=4) and '--standalone' in _command('m', 'c', gpus=4)
    with pytest.raises(ValueError, match='--rdzv'): _command('m', 'c', gpus=8, nodes=2)
    monkeypatch.setenv('SLURM_JOB_ID', '17')
    line = _command('m', 'c', gpus=8, nodes=2, rdzv='h:1')
    assert line[0] == 'srun' and '--nodes=2' in line and '--rdzv-id=17' in line and '--rdzv-endpoint=h:1' in line


def test_slurm_script_is_valid_bash_and_cannot_be_injected(notebook, tmp_path):
    nb = notebook('s', "word: str = 'x'  # a")
    script = slurm(nb, {'word': "$(touch hacked); 'q' `id`"}, gpus=2, nodes=3, partition='a100')
    (tmp_path/'job.sh').write_text(script)
    subprocess.run(['bash', '-n', tmp_path/'job.sh'], check=True)
    bin = tmp_path/'bin'; bin.mkdir()
    for name, body in dict(hyperlex='printf "%s\\n" "$@" > args', scontrol='echo node7').items():
        (bin/name).write_text(f'#!/bin/bash\n{body}\n'); (bin/name).chmod(0o755)
    env = {**os.environ, 'PATH': f"{bin}:{os.environ['PATH']}", 'SLURM_SUBMIT_DIR': str(tmp_path), 'SLURM_JOB_ID': '5', 'SLURM_JOB_NODELIST': 'node[7-9]'}
    subprocess.run(['bash', tmp_path/'job.sh'], check=True, env=env)
    args = (tmp_path/'args').read_text().splitlines()
    assert "-pword=$(touch hacked); 'q' `id`" in args and 'node7:29500' in args and not (tmp_path/'hacked').exists()
    assert '#SBATCH --nodes=3' in script and '#SBATCH --gpus-per-node=2' in script and '--partition=a100' in script
    with pytest.raises(ValueError, match='no parameter'): slurm(nb, {'words': 1}, 1, 1)


def test_ratio_interval_is_that_of_drawn_rows():
    rng = np.random.default_rng(0)
    words = rng.integers(50, 500, 40)
    tokens = words * 2 + rng.integers(0, 200, 40)
    value, low, high = ratio_interval(tokens, words, draws=4000, seed=1)
    pick = rng.integers(0, 40, (4000, 40))
    other = np.quantile(tokens[pick].sum(1) / words[pick].sum(1), [.025, .975])
    assert value == tokens.sum() / words.sum() and low < value < high and np.allclose((low, high), other, atol=.2 * (high - low))
    assert ratio_interval(tokens, words, seed=3) == ratio_interval(list(tokens), list(words), seed=3) != ratio_interval(tokens, words, seed=4)
    assert ratio_interval([3], [2]) == (1.5, 1.5, 1.5)
    for bad in (([], []), ([1, 2], [1])):
        with pytest.raises(ValueError, match='expected the same number, at least 1'): ratio_interval(*bad)


def test_progress_is_sparse_and_complete(capsys, monkeypatch):
    monkeypatch.setenv('HYPERLEX_RUN', '/nowhere')
    assert list(progress((i for i in range(1000)), total=1000, desc='x', every=.05)) == list(range(1000))
    assert len(capsys.readouterr().out.splitlines()) <= 3


def test_gpus_of_the_runner_reach_the_trainer(notebook, tmp_path, monkeypatch):
    "`execute(gpus=2)` makes `launch` in the notebook start two processes through torch.distributed.run."
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    _module(tmp_path, "import os, sys, pathlib\npathlib.Path(sys.argv[1] + os.environ['RANK']).write_text(os.environ['WORLD_SIZE'])")
    nb = notebook('g', "n: int = 3", f"from hyperlex_nb.runs import launch\nlaunch('child_module', {str(tmp_path/'rank')!r})")
    run = execute(nb, runs_dir=tmp_path/'runs', gpus=2)
    assert run.status == 'finished', run.manifest['error']
    assert [(tmp_path/f'rank{i}').read_text() for i in (0, 1)] == ['2', '2'] and run.manifest['launch'] == dict(gpus=2, nodes=1, rdzv='')
