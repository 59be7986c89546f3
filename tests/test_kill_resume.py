"""The acceptance of chapter `runs`: kill -9 the kernel, the trainer and the runner in turn, resume, and get the metrics of an uninterrupted run."""
import json, os, subprocess, sys, time
from pathlib import Path
import psutil, pytest
from hyperlex_nb.runs import Run

STEPS = 600


def command(runs, material, root, name, *extra):
    p = dict(corpus=material/'corpus', tokenizer=material/'tok', optimizers='muon', width=32, layers=1, context=32, batch=8, micro=8, steps=STEPS, save_every=5, works=4)
    start = [str(root/'nbs'/'experiments'/'pretrain.ipynb'), *[x for k, v in p.items() for x in ('-p', f'{k}={v}')], '--name', name]
    return [sys.executable, '-c', 'import sys; from hyperlex_nb.cli import main; sys.exit(main())', 'run', *(extra or start), '--runs-dir', str(runs)]


def victim(runner, kind):
    "The process to kill: the runner, its kernel, or the trainer that the kernel launched."
    family = [runner, *runner.children(recursive=True)]
    def line(p):
        try: return ' '.join(p.cmdline())
        except psutil.Error: return ''
    return dict(runner=[runner], kernel=[p for p in family if 'ipykernel_launcher' in line(p)], trainer=[p for p in family if '-m hyperlex_nb.pretrain' in line(p)])[kind][0]


def test_kill_each_in_turn_then_resume(material, tmp_path, root):
    env = {**os.environ, 'TOKENIZERS_PARALLELISM': 'false'}
    subprocess.run(command(tmp_path, material, root, 'whole'), check=True, cwd=root, env=env, stdout=subprocess.DEVNULL)
    run, at = Run(tmp_path/'killed'), 10
    for kind in 'kernel', 'trainer', 'runner':
        child = subprocess.Popen(command(tmp_path, material, root, 'killed', *(['--resume', 'killed'] if run.manifest else [])), cwd=root, env=env, stdout=subprocess.PIPE, text=True)
        runner = psutil.Process(child.pid)
        while not any(int(p.name[-7:]) >= at for p in (run.path/'muon').glob('checkpoint-*')): assert child.poll() is None, child.stdout.read(); time.sleep(.02)
        victim(runner, kind).kill()
        out, _ = child.communicate(timeout=120)  # no hang
        assert run.status == 'failed', out
        assert {'kernel': 'kernel died', 'trainer': 'killed by signal 9', 'runner': 'runner died'}[kind] in run.manifest['error']
        assert not (run.path/'muon'/'result.json').exists(), 'killed too late to prove anything'
        at = max(int(p.name[-7:]) for p in (run.path/'muon').glob('checkpoint-*')) + 5
    done = subprocess.run(command(tmp_path, material, root, 'killed', '--resume', 'killed'), cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert run.status == 'finished' and run.manifest['attempts'] == 4
    assert run.metrics == Run(tmp_path/'whole').metrics and 'bpb/muon' in run.metrics
    assert (run.path/'muon'/'result.json').read_bytes() == (tmp_path/'whole'/'muon'/'result.json').read_bytes()
    assert (run.path/'muon'/'model'/'model.safetensors').read_bytes() == (tmp_path/'whole'/'muon'/'model'/'model.safetensors').read_bytes()
