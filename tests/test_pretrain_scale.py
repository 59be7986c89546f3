"Training at scale in small: shards, checkpoints that change hands, a start from other weights, and what goes wrong with many processes."
import json, shutil, threading, time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
import numpy as np, psutil, pytest, torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from hyperlex_nb import pretrain
from hyperlex_nb.chunks import train_chunks
from hyperlex_nb.core import HyperCore
from hyperlex_nb.corpus import read
from hyperlex_nb.model import load
from hyperlex_nb.pretrain import TrainConfig, _Blocks, _Objective, _objective, _optimizers, design, pack, train
from hyperlex_nb.runs import launch

CORE = dict(architecture='core', options=dict(piece_width=32, piece_hidden=64, word_rows=256, prefix_rows=512))
LAST = 'checkpoint-0000012'


@pytest.fixture(scope='module')
def chunks(material):
    "The same text for a HyperCore: `tokc/` and `packedc/`."
    train_chunks((d['text'] for d in read(material/'corpus', 'train')), 1024).save_pretrained(material/'tokc')
    pack(material/'corpus', material/'tokc', material/'packedc')
    return material


@pytest.fixture
def cfg(material, tmp_path): return config(material, tmp_path/'out')

@pytest.fixture
def core(cfg, chunks): return replace(cfg, packed=str(chunks/'packedc'), tokenizer=str(chunks/'tokc'), **CORE)


def weights(out): return load(Path(out)/'model').state_dict()
def same(a, b): return all(torch.equal(x, y) for x, y in zip(weights(a).values(), weights(b).values()))
def close(a, b): return max((x.float() - y.float()).abs().max().item() for x, y in zip(weights(a).values(), weights(b).values())) < 1e-4
def shorten(src, to):
    "A copy of a training as if it had been killed before its last checkpoint."
    shutil.copytree(src, to, ignore=shutil.ignore_patterns(LAST, 'model', 'result.json', '.lock'))


# ---- two processes run the jobs of a list, one after another; the tests look at what is left

JOBS = """
import json, shutil, sys, torch, torch.distributed as dist
from dataclasses import replace
from pathlib import Path
from hyperlex_nb import pretrain
dist.init_process_group('gloo')
rank, plain = dist.get_rank(), pretrain._Objective.forward
for job in json.loads(Path(sys.argv[1]).read_text()):
    out = Path(job['cfg']['out'])
    if job.get('like') and rank == 0: shutil.copytree(job['like'], out, ignore=shutil.ignore_patterns('%s', 'model', 'result.json', '.lock'))
    dist.barrier()
    calls = []
    def forward(self, x):
        loss, more = plain(self, x)
        calls.append(1)
        return (loss * float('nan'), more) if job.get('poison') == [rank, len(calls)] else (loss, more)
    pretrain._Objective.forward = forward
    cfg = replace(pretrain.TrainConfig(**job['cfg']), **job.get('ranks', {}).get(str(rank), {}))
    try: pretrain.train(cfg); said = ''
    except Exception as e: said = f'{type(e).__name__}: {e}'
    out.with_name(f'{out.name}.said-{rank}').write_text(said)
    dist.barrier()
dist.destroy_process_group()
""" % LAST

def together(folder, jobs, gpus):
    "Run jobs in processes; {name of the folder: what each process had to say}."
    (folder/'jobs_of_a_test.py').write_text(JOBS)
    (folder/'jobs.json').write_text(json.dumps([{**j, 'cfg': asdict(j['cfg'])} for j in jobs]))
    with pytest.MonkeyPatch.context() as m:
        m.setenv('PYTHONPATH', f'{folder}:{Path(pretrain.__file__).parent.parent}'); m.setenv('OMP_NUM_THREADS', '1')
        launch('jobs_of_a_test', folder/'jobs.json', gpus=gpus)
    return {Path(j['cfg'].out).name: [Path(f"{j['cfg'].out}.said-{r}").read_text() for r in range(gpus)] for j in jobs}

def config(material, out): return TrainConfig(str(material/'packed'), str(material/'tok'), str(out), width=32, layers=2, context=32, batch=8, micro=8, steps=12, save_every=4, log_every=1, dtype='fp32')

WAYS = dict(ddp=dict(parallel='ddp', micro=4), fsdp=dict(parallel='fsdp', micro=2))

@pytest.fixture(scope='module')
def group(material, chunks, tmp_path_factory):
    "(folder, {run: what its two processes said}): one launch for all tests of two processes."
    f = tmp_path_factory.mktemp('group')
    cfg, jobs = config(material, f/'none'), []
    core = replace(cfg, packed=str(chunks/'packedc'), tokenizer=str(chunks/'tokc'), **CORE)
    for kind, base in dict(llama=cfg, core=core).items():
        train(replace(base, out=str(f/f'{kind}-one')))
        for way, how in WAYS.items(): jobs.append(dict(cfg=replace(base, out=str(f/f'{kind}-{way}'), **how)))
        for way, how in WAYS.items():
            for src in sorted({'one', 'ddp', 'fsdp'} - {way}): jobs.append(dict(cfg=replace(base, out=str(f/f'{kind}-{src}-to-{way}'), **how), like=str(f/f'{kind}-{src}')))
    muon = replace(cfg, optimizer='muon', parallel='fsdp')
    jobs += [dict(cfg=replace(muon, out=str(f/'muon'))), dict(cfg=replace(muon, out=str(f/'muon-again')), like=str(f/'muon'))]
    half, frozen = replace(cfg, dtype='bf16', parallel='fsdp', micro=4), replace(cfg, init=str(f/'llama-one'/'model'), freeze=r'layers\.0\.', steps=4, parallel='fsdp', micro=4)
    for name, c in dict(half=half, frozen=frozen).items():
        train(replace(c, out=str(f/f'{name}-one')))
        jobs.append(dict(cfg=replace(c, out=str(f/name))))
    shutil.copytree(material/'packed', f/'other')
    m = json.loads((f/'other'/'manifest.json').read_text())
    (f/'other'/'manifest.json').write_text(json.dumps({**m, 'tokens': m['tokens'] - 1}))
    bad = lambda name, job={}, **kw: jobs.append(dict(cfg=replace(cfg, out=str(f/name), **kw), **job))
    for way in WAYS: bad(f'nan-{way}', dict(poison=[1, 10]), parallel=way)
    bad('text', dict(ranks={1: dict(packed=str(f/'other'))})); bad('nowhere', dict(ranks={1: dict(packed=str(f/'nil'))})); bad('rate', dict(ranks={1: dict(lr=1.)}))
    bad('init', init=str(f/'nil')); bad('tok', tokenizer=core.tokenizer); bad('batch', batch=5); bad('shard', parallel='fsdp', shard=3); bad('bits', parallel='fsdp', optimizer='adamw8bit')
    return f, together(f, jobs, 2)

def log(out): return json.loads((Path(out)/'result.json').read_text())['log']


@pytest.mark.parametrize('kind', ['llama', 'core'])
def test_checkpoints_change_hands(group, kind):
    "Written by one process, by two with copies, by two with shards; gone on from by each of the others; and every end is a stock model."
    f, said = group
    assert {n: s for n, s in said.items() if n.startswith(kind) and any(s)} == {}
    for way in WAYS:
        shorten(f/f'{kind}-{way}', out := f/f'{kind}-{way}-to-one')
        train(replace(TrainConfig(**json.loads((f/f'{kind}-one'/'train.json').read_text())), out=str(out)))
    outs = [p.parent for p in f.glob(f'{kind}-*/result.json')]
    assert len(outs) == 9
    for out in outs:
        assert close(f/f'{kind}-one', out), out.name
        assert [s for s, _ in log(out)] == list(range(1, 13)) and log(out)[-1][1] == pytest.approx(log(f/f'{kind}-one')[-1][1], abs=1e-4)
        assert {**json.loads((out/'result.json').read_text()), 'log': 0} == {**json.loads((f/f'{kind}-one'/'result.json').read_text()), 'log': 0}
    stock, kept = AutoModelForCausalLM.from_pretrained(f/f'{kind}-fsdp'/'model'), load_file(f/f'{kind}-fsdp'/LAST/'model.safetensors')
    assert {n for n, _ in stock.named_parameters()} <= set(kept) and all(torch.equal(t, stock.state_dict()[n]) for n, t in kept.items())
    assert (stock.lm_head.weight is stock.model.embed_tokens.weight) if kind == 'llama' else isinstance(stock, HyperCore)


def test_sharded_training_resumes(group):
    f, said = group
    assert said['muon'] == said['muon-again'] == ['', '']
    assert [s for s, _ in log(f/'muon-again')] == list(range(1, 13)) and np.allclose(log(f/'muon'), log(f/'muon-again'), atol=1e-5)


def test_sixteen_bits_and_frozen_weights_in_shards(group):
    f, said = group
    assert said['half'] == said['frozen'] == ['', ''] and np.allclose(log(f/'half'), log(f/'half-one'), atol=2e-3) and log(f/'half') != log(f/'llama-one')
    assert close(f/'frozen', f/'frozen-one')
    before, after = weights(f/'llama-one'), weights(f/'frozen')
    assert [n for n in before if torch.equal(before[n], after[n])] == [n for n in before if 'layers.0.' in n]


@pytest.mark.parametrize('way', WAYS)
def test_a_loss_of_one_process_stops_all(group, way):
    f, said = group
    name = f'nan-{way}'
    assert len(set(said[name])) == 1 and 'ValueError: the loss or its gradient is nan at step 10: the last good checkpoint, checkpoint-0000008, is kept' in said[name][0]
    assert sorted(p.name for p in (f/name).glob('checkpoint-*')) == ['checkpoint-0000004', 'checkpoint-0000008']
    assert all(torch.isfinite(t).all() for t in load(f/name/'checkpoint-0000008').state_dict().values())


@pytest.mark.parametrize('name, says', dict(text='process 1 has other tokens than process 0', nowhere='process 1 has other tokens than process 0', rate='process 1 has other lr than process 0 (1.0 and 0.0007)', init='nil holds no model', tok='packed with another tokenizer',
    batch='batch (5) must be divisible by the number of processes (2)', shard='shard (3) must divide the number of processes (2)', bits='adamw8bit cannot be sharded').items())
def test_one_error_for_all(group, name, says): assert len(set(group[1][name])) == 1 and says in group[1][name][0] and group[1][name][0].count('\n') == 0


def test_copies_of_shards(material, tmp_path):
    "Four processes, two copies of two shards each, learn what one process learns; and it can be read."
    train(one := config(material, tmp_path/'one'))
    four = replace(one, parallel='fsdp', micro=2, shard=2, checkpointing=True)
    said = together(tmp_path, [dict(cfg=replace(four, out=str(tmp_path/'four'))), dict(cfg=replace(four, out=str(tmp_path/'again')), like=str(tmp_path/'one'))], 4)
    assert said == dict(four=['']*4, again=['']*4) and close(tmp_path/'one', tmp_path/'four') and close(tmp_path/'one', tmp_path/'again')


def test_a_process_that_dies_ends_all_in_time_and_the_training_goes_on(cfg, tmp_path, monkeypatch):
    two = replace(cfg, micro=4, steps=4000, save_every=20, log_every=10)
    (tmp_path/'c.json').write_text(json.dumps(asdict(two)))
    failed = []
    def start():
        try: launch('hyperlex_nb.pretrain', tmp_path/'c.json', gpus=2)
        except RuntimeError as e: failed.append(str(e))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    thread = threading.Thread(target=start)
    thread.start()
    while len(list((tmp_path/'out').glob('checkpoint-*'))) < 2: assert thread.is_alive(), failed; time.sleep(.05)
    child = next(p for p in psutil.Process().children(recursive=True) if 'hyperlex_nb.pretrain' in (line := ' '.join(p.cmdline())) and 'torch.distributed' not in line and p.environ().get('RANK') == '1')
    child.kill()
    thread.join(90)
    assert not thread.is_alive() and len(failed) == 1 and 'hyperlex_nb.pretrain ended with code' in failed[0]
    assert 'SIGKILL' in failed[0] or 'another process of this training has ended' in failed[0] # the launcher sees it first, or the other process
    newest = pretrain._newest(tmp_path/'out')
    at = int(newest.name[-7:])
    assert at >= 20 and not (tmp_path/'out'/'result.json').exists()
    monkeypatch.setattr(pretrain, '_scale', lambda cfg, step: 0.) # the rest is short: what is asked is that it starts there
    saw = []
    monkeypatch.setattr(pretrain, '_step', lambda objective, opts, blocks, cfg, step, device: saw.append(step) or 1.)
    train(two)
    assert saw[0] == at and saw[-1] == 3999


# ---- one process

def test_checkpoints_in_several_files(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, '_write', partial(pretrain._write, limit=60_000))
    train(cfg)
    train(replace(cfg, out=str(tmp_path/'few'))); shutil.rmtree(tmp_path/'few'/LAST); shutil.rmtree(tmp_path/'few'/'model')
    monkeypatch.undo()
    train(replace(cfg, out=str(tmp_path/'few'))); train(replace(cfg, out=str(tmp_path/'whole')))
    files = sorted((tmp_path/'out'/'model').glob('model*.safetensors'))
    assert len(files) > 2 and files[0].name == f'model-00001-of-{len(files):05}.safetensors' and len(list((tmp_path/'out'/LAST).glob('optimizer-*'))) > 4
    assert same(tmp_path/'out', tmp_path/'whole') and same(tmp_path/'few', tmp_path/'whole')
    (tmp_path/'out'/LAST/files[1].name).unlink()
    assert pretrain._newest(tmp_path/'out').name == 'checkpoint-0000008'


def grads(model, objective, x):
    loss, more = objective(x)
    (loss + more).backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters()}

@pytest.mark.parametrize('kind', ['cfg', 'core'])
@pytest.mark.parametrize('dtype', ['fp32', 'bf16'])
def test_what_is_computed_twice_is_the_same(kind, dtype, request):
    cfg = replace(request.getfixturevalue(kind), dtype=dtype, layers=4, context=128)
    config, new, _ = design(cfg)
    x, got, kept = _Blocks(cfg.packed, 128, 0).batch(0, 4), {}, {}
    for twice in False, True:
        model = new(config, 0).train()
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        seen = {}
        def note(t): seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes(); return t
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t): objective = _objective(model, replace(cfg, checkpointing=twice)); loss, more = objective(x)
        kept[twice] = sum(n for k, n in seen.items() if k not in own)
        model.zero_grad()
        got[twice] = grads(model, objective, x)
    assert got[False][0] == got[True][0] and all(torch.equal(g, got[True][1][n]) for n, g in got[False][1].items())
    assert kept[True] < .6*kept[False]


def test_checkpointing_does_not_change_a_training(cfg, tmp_path):
    assert train(cfg) == train(replace(cfg, out=str(tmp_path/'twice'), checkpointing=True)) and same(tmp_path/'out', tmp_path/'twice')
    shutil.rmtree(tmp_path/'out'/LAST)
    assert train(replace(cfg, checkpointing=True, micro=4, compile=False))['log'][-1][0] == 12, 'how it is computed may change on the way'


def test_compiled_weights_have_their_own_names(cfg, tmp_path, monkeypatch):
    whole, plain = train(cfg), torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self: plain(self, backend='eager')) # the graph is made, and not turned into C++
    compiled = train(replace(cfg, out=str(tmp_path/'fast'), compile=True))
    assert [s for s, _ in compiled['log']] == [s for s, _ in whole['log']] and compiled['log'][-1][1] == pytest.approx(whole['log'][-1][1], abs=1e-5)
    assert set(weights(tmp_path/'fast')) == set(weights(tmp_path/'out')) and close(tmp_path/'fast', tmp_path/'out') and not [n for n in weights(tmp_path/'fast') if '_orig_mod' in n]


def test_a_start_from_other_weights(cfg, tmp_path):
    train(cfg)
    start = replace(cfg, out=str(tmp_path/'next'), init=str(tmp_path/'out'/'model'), seed=5, freeze=r'layers\.0\.')
    whole = train(start)
    fixed = [n for n in weights(tmp_path/'out') if 'layers.0.' in n]
    before, after = weights(tmp_path/'out'), weights(tmp_path/'next')
    assert len(fixed) == 9 and all(torch.equal(before[n], after[n]) for n in fixed) and not any(torch.equal(before[n], after[n]) for n in after if n not in fixed)
    with torch.no_grad(): first = _Objective(load(tmp_path/'out'/'model'), 'fp32')(_Blocks(cfg.packed, 32, 5).batch(0, 8))[0].item()
    assert whole['log'][0][1] == pytest.approx(first, abs=1e-6), 'the loss of the weights it starts from'
    shorten(tmp_path/'next', tmp_path/'again')
    assert train(replace(start, out=str(tmp_path/'again'))) == whole and same(tmp_path/'next', tmp_path/'again'), 'resumed from its own checkpoint, not from the start'
    opts = _optimizers(pretrain._begin(start, *design(start)[:2], torch.device('cpu'))[0], replace(start, optimizer='muon'))
    assert sum(p.numel() for o in opts for p in pretrain._params(o)) < sum(t.numel() for n, t in before.items() if n not in fixed)


def test_weights_in_16_bits_and_in_old_files(cfg, tmp_path):
    train(cfg)
    load(tmp_path/'out'/'model').to(torch.bfloat16).save_pretrained(tmp_path/'half')
    model = pretrain._begin(cfg, *design(cfg)[:2], torch.device('cpu'))[0]
    pretrain._load(tmp_path/'half', model)
    assert all(p.dtype == torch.float32 and torch.equal(p, weights(tmp_path/'out')[n].bfloat16().float()) for n, p in model.named_parameters())
    kept = load_file(tmp_path/'out'/LAST/'model.safetensors')
    save_file(kept | {'lm_head.weight': kept['model.embed_tokens.weight'].clone()}, tmp_path/'out'/LAST/'model.safetensors', metadata=dict(format='pt')) # as written before tied weights were stored once
    (tmp_path/'out'/'train.json').write_text(json.dumps({k: v for k, v in asdict(cfg).items() if k not in 'shard checkpointing compile init freeze'.split()}))
    assert train(cfg)['log'][-1][0] == 12


@pytest.mark.parametrize('change, says', [
    (dict(width=64), r'holds another model: model.embed_tokens.weight is \[1024, 32\] there and \[1024, 64\] here'), (dict(layers=3), r'model.layers.2.\S+ is missing there and \[\S.* here'), (dict(layers=1), r'model.layers.1.\S+ is \[.*\] there and missing here'),
    (dict(init='nowhere'), 'nowhere holds no model'), (dict(freeze='attn$'), "freeze='attn\\$' is found in no name of a weight"), (dict(freeze='.'), 'found in every name'), (dict(freeze='('), 'no regular expression'), (dict(shard=-1), 'shard must be'), (dict(compile='yes'), 'compile must be true or false')])
def test_a_start_that_does_not_fit(cfg, tmp_path, change, says):
    if not (tmp_path/'out'/'model').exists(): train(replace(cfg, steps=1))
    with pytest.raises((ValueError, FileNotFoundError), match=says): train(replace(cfg, **dict(init=str(tmp_path/'out'/'model'), out=str(tmp_path/'next')) | change))


def test_weights_of_another_architecture_tokenizer_or_text(cfg, core, material, tmp_path):
    train(replace(cfg, steps=1)); train(replace(core, steps=1, out=str(tmp_path/'core')))
    with pytest.raises(ValueError, match='another tokenizer than'): train(replace(core, init=str(tmp_path/'out'/'model'), out=str(tmp_path/'a')))
    for f in (tmp_path/'out'/'model').glob('tokenizer*'): f.unlink()
    with pytest.raises(ValueError, match='holds a llama, this run trains a hyperlex-core'): train(replace(core, init=str(tmp_path/'out'/'model'), out=str(tmp_path/'b')))
    with pytest.raises(ValueError, match='packed with another tokenizer'): train(replace(cfg, tokenizer=core.tokenizer, out=str(tmp_path/'c')))
    shutil.copytree(tmp_path/'core', tmp_path/'mixed'); (tmp_path/'mixed'/'train.json').unlink()
    with pytest.raises(ValueError, match='holds a hyperlex-core, this run trains a llama'): train(replace(cfg, out=str(tmp_path/'mixed'), steps=2))
    (tmp_path/'out'/'train.json').unlink()
    with pytest.raises(ValueError, match='written by another optimizer'): train(replace(cfg, optimizer='muon', steps=2))
    with pytest.raises(ValueError, match='trained on another corpus or tokenizer'):
        shutil.copytree(material/'packed', tmp_path/'p'); m = json.loads((tmp_path/'p'/'manifest.json').read_text()); m['key']['corpus'] = 'x'; (tmp_path/'p'/'manifest.json').write_text(json.dumps(m))
        shutil.rmtree(tmp_path/'out'); train(replace(cfg, steps=1)); (tmp_path/'out'/'train.json').unlink()
        train(replace(cfg, packed=str(tmp_path/'p'), steps=2))


def test_a_gradient_that_is_not_finite_stops_before_the_weights(cfg, tmp_path, monkeypatch):
    plain, calls = pretrain._Objective.forward, []
    def forward(self, x):
        loss, more = plain(self, x); calls.append(1)
        return loss, more + (loss*float('inf') if len(calls) == 6 else 0) # not in the loss that is logged
    monkeypatch.setattr(pretrain._Objective, 'forward', forward)
    with pytest.raises(ValueError, match='its gradient is nan at step 6.*checkpoint-0000004, is kept'): train(cfg)
    monkeypatch.undo()
    again = train(cfg)
    assert again['log'] == train(replace(cfg, out=str(tmp_path/'whole')))['log'], 'the checkpoint was sound'


def test_speed_is_written_down(cfg, tmp_path, capsys):
    train(cfg)
    t, price = json.loads((tmp_path/'out'/'timing.json').read_text()), design(cfg)[2]
    assert t['flops_per_second'] == pytest.approx(t['tokens_per_second']*price.train) and t['mfu'] == pytest.approx(t['flops_per_second']/t['peak_flops_per_second']) and 0 < t['mfu'] < 1
    assert t['tokens_per_second'] == pytest.approx(12*8*32/t['seconds']) and 'GFLOP/s' in capsys.readouterr().out
    (tmp_path/'out'/'timing.json').unlink(); train(cfg)
    assert not (tmp_path/'out'/'timing.json').exists(), 'nothing was trained'


def test_the_entry_tells_what_happened(cfg, tmp_path, monkeypatch):
    (tmp_path/'c.json').write_text(json.dumps(asdict(cfg)))
    class BackendCompilerFailed(RuntimeError): pass
    for error, world, says in (torch.distributed.DistNetworkError('closed'), 2, 'another process of this training has ended'), (RuntimeError('[gloo/transport] Connection closed by peer'), 2, 'goes on from the newest checkpoint'), (BackendCompilerFailed('no compiler\nmore'), 1, r'no compiler; is a C\+\+ compiler'):
        def fail(cfg, error=error): raise error
        monkeypatch.setattr(pretrain, 'train', fail); monkeypatch.setattr(pretrain, '_world', lambda: world)
        with pytest.raises(SystemExit, match=says): pretrain.main(tmp_path/'c.json')
    monkeypatch.setattr(pretrain, '_world', lambda: 1)
    def fail(cfg): raise RuntimeError('a fault of ours')
    monkeypatch.setattr(pretrain, 'train', fail)
    with pytest.raises(RuntimeError, match='of ours'): pretrain.main(tmp_path/'c.json')
