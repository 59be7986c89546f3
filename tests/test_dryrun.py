"The dry run: real models on no device, real wrapping, real bytes; layouts that fit, and one error that helps where none does."
import json, math
from dataclasses import asdict, replace
from pathlib import Path
import pytest, torch, torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig
from hyperlex_nb import pretrain
from hyperlex_nb.chunks import train_chunks
from hyperlex_nb.core import CoreConfig, core_cost
from hyperlex_nb.corpus import read
from hyperlex_nb.dryrun import Layout, _best, _held, _job, _kept, _memory, _pretend, _wrapped, dry_run, model_config
from hyperlex_nb.estimates import Estimate
from hyperlex_nb.machines import GPUS, bill, mfu
from hyperlex_nb.memory import training_memory
from hyperlex_nb.model import baseline_config, build, cost
from hyperlex_nb.pretrain import TrainConfig, pack, train
from hyperlex_nb.runs import launch
from hyperlex_nb.shapes import SHAPES, Shape

WRITER = dict(piece_width=64, piece_hidden=128, word_rows=256, prefix_rows=512)
PROBE = """
import json, sys, torch, torch.distributed as dist
from pathlib import Path
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from hyperlex_nb.pretrain import TrainConfig, _Blocks, _begin, _optimizers, design
dist.init_process_group('gloo')
local, said = (lambda t: t.to_local() if hasattr(t, 'to_local') else t), []
for raw in json.loads(Path(sys.argv[1]).read_text()):
    cfg = TrainConfig(**raw)
    config, new, _ = design(cfg)
    model, objective = _begin(cfg, config, new, torch.device('cpu'))
    opts, x = _optimizers(model, cfg), _Blocks(cfg.packed, cfg.context, 0).batch(dist.get_rank()*cfg.micro, cfg.micro)
    tracker = FSDPMemTracker(objective, opts[-1]); tracker.track_inputs((x,))
    with tracker:
        for step in range(2):
            sum(objective(x)).backward()
            gradients = sum(local(p.grad).nbytes for p in model.parameters())
            for o in opts: o.step(); o.zero_grad()
            if not step: tracker.reset_mod_stats()
    said.append([sum(local(p).nbytes for p in model.parameters()), gradients, sum(local(v).nbytes for o in opts for s in o.state.values() for v in s.values() if torch.is_tensor(v)), tracker.get_tracker_snapshot('peak')[torch.device('cpu')]['Total']])
Path(sys.argv[1]).with_suffix(f'.{dist.get_rank()}').write_text(json.dumps(said))
dist.destroy_process_group()
"""


def test_bytes_of_two_real_processes(material, tmp_path, monkeypatch):
    "Weights, gradients and states to the byte, for both models, optimizers and precisions, with sides that do not divide; the worst moment within the interval."
    train_chunks((d['text'] for d in read(material/'corpus', 'train')), 1023).save_pretrained(tmp_path/'tok')
    pack(material/'corpus', tmp_path/'tok', tmp_path/'row')
    llama = TrainConfig(str(material/'packed'), str(material/'tok'), '-', width=256, layers=3, context=128, batch=16, micro=8, parallel='fsdp')
    core = replace(llama, packed=str(tmp_path/'row'), tokenizer=str(tmp_path/'tok'), architecture='core', options=WRITER | dict(piece_width=63), context=256)
    cfgs = [replace(c, checkpointing=twice, dtype=dtype, optimizer=o) for c in (llama, core) for twice, dtype, o in ((False, 'bf16', 'adamw'), (True, 'bf16', 'adamw'), (True, 'fp32', 'muon'))]
    (tmp_path/'probe_of_a_test.py').write_text(PROBE); (tmp_path/'c.json').write_text(json.dumps([asdict(c) for c in cfgs]))
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{Path(pretrain.__file__).parent.parent}'); monkeypatch.setenv('OMP_NUM_THREADS', '1')
    launch('probe_of_a_test', tmp_path/'c.json', gpus=2)
    first, second = (json.loads((tmp_path/f'c.{r}').read_text()) for r in range(2))
    for cfg, (*held, peak), other in zip(cfgs, first, second):
        job = _job(cfg, *[None]*4)
        assert tuple(held) == _held(job, 2, cfg.optimizer), cfg
        assert held[0] == _wrapped(job, 2) and all(a <= b for a, b in zip(other[:3], held)) and held[0] + other[0] == 4*job.price.params
        total = _memory(_job(cfg, *[None]*4), 2, 8, cfg.checkpointing, cfg.optimizer, None).total
        assert total.low < peak < total.high, (cfg, peak, total)
    assert first[3][0] > second[3][0], 'an odd side: the first process has more'


def test_bytes_of_8_bits(material):
    pytest.importorskip('bitsandbytes')
    cfg = TrainConfig(str(material/'packed'), str(material/'tok'), '-', width=256, layers=1, context=32, batch=2, micro=2, optimizer='adamw8bit')
    config, new, _ = pretrain.design(cfg)
    model, objective = pretrain._begin(cfg, config, new, torch.device('cpu'))
    opts = pretrain._optimizers(model, cfg)
    sum(objective(pretrain._Blocks(cfg.packed, 32, 0).batch(0, 2))).backward()
    for o in opts: o.step()
    real = sum(v.nbytes for o in opts for s in o.state.values() for k, v in s.items() if torch.is_tensor(v) and not k.startswith('qmap')) # one table for all
    assert _held(_job(cfg, *[None]*4), 1, 'adamw8bit')[2] == pytest.approx(real, rel=.01)


@pytest.mark.parametrize('architecture', ['llama', 'core'])
@pytest.mark.parametrize('n', ['30M', '1B', '70B', '200B'])
def test_models_of_a_size(n, architecture):
    c = model_config(n, architecture)
    job = _job(c, *[None]*3, 1.9)
    want = (cost(c, 4096) if architecture == 'llama' else core_cost(c, 1, 1)).params
    assert sum(p.numel() for p in job.model.parameters()) == job.price.params == want == pytest.approx(float(n[:-1])*{'M': 1e6, 'B': 1e9}[n[-1]], rel=.05)
    assert all(p.is_meta for p in job.model.parameters())
    shards = [_held(job, s, 'adamw')[0] for s in (1, 2, 64)]
    assert shards[0] == 4*want and shards[0]/2 <= shards[1] < .51*shards[0] and 4*want/64 <= shards[2] < 1.02*4*want/64
    settings = TrainConfig('', '', '', **job.settings)
    assert (settings.width, settings.layers) == (c.hidden_size, c.num_hidden_layers) if architecture == 'llama' else (c.width, c.layers)


@pytest.mark.parametrize('architecture, shard', [('llama', 3), ('llama', 32), ('core', 8)])
def test_the_wrapping_of_the_training(architecture, shard):
    "What `fully_shard` makes of 7 billion weights on no device, tensor by tensor."
    job = _job('7B', architecture, None, 4096, 1.9)
    assert _held(job, shard, 'adamw')[0] == _wrapped(job, shard) and all(isinstance(p, DTensor) for p in job.model.parameters()) and not dist.is_initialized()
    assert sum(p.numel() for p in job.model.parameters()) == job.price.params


def test_inside_a_training_it_is_refused():
    with _pretend(2), pytest.raises(ValueError, match='in another one'): dry_run('1B', shard=8, gpus=8)
    assert not dist.is_initialized()


def test_a_layout_adds_up():
    l = dry_run('7B', 'A100', 64, '140B', '2M', checkpointing=True)
    assert l.gpus % l.shard == 0 and l.batch == 64*l.micro*l.accumulation and abs(l.batch*4096/2e6 - 1) < .15 and l.params == cost(model_config('7B'), 4096).params
    assert l.memory.fits(80e9) and l.memory.weights.value == _held(_job('7B', 'llama', None, 4096, None), l.shard, 'adamw')[0]
    work = cost(model_config('7B'), 4096).train
    assert l.bill.flops.value == pytest.approx(work*140e9) and l.speed.value*l.bill.days.value*86400 == pytest.approx(140e9, rel=1e-6)
    once = dry_run('7B', 'A100', 64, '140B', '2M', checkpointing=False, share=.4)
    assert once.speed.value == pytest.approx(64*312e12*.4/work) and once.bill.days.value == bill(work*140e9, 'A100', 64, .4).days.value
    assert l.bill.days.high == pytest.approx(bill(work*140e9, 'A100', 64, mfu('A100')).days.high/.75), 'computing twice takes up to a third more time'
    text = str(l)
    assert all(w in text for w in ('of 6.92B', '64 A100', 'copies', 'gathered' if l.shard > 1 else 'weights', 'token/s', 'day', 'USD'))


def test_it_agrees_with_the_calculator_of_memory():
    "States as chapter `memory` counts them; with fewer cards to a copy there is more on each."
    c = LlamaConfig(vocab_size=128_256, hidden_size=8192, intermediate_size=28_672, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8, max_position_embeddings=4096, tie_word_embeddings=False)
    job = _job(c, *[None]*4)
    assert job.price.params == SHAPES['llama-3-70b'].params and job.settings == {}, 'the trainer makes no such Llama'
    ours, theirs = _memory(job, 64, 1, True, 'adamw'), training_memory(SHAPES['llama-3-70b'], gpus=64, sharding='fsdp', length=4096)
    states = lambda m: sum(getattr(m, k).value for k in ('weights', 'gradients', 'optimizer'))
    assert states(ours) == pytest.approx(states(theirs), rel=1e-3) and .5 < ours.total.value/theirs.total.value < 2
    totals = [_memory(job, s, 1, True, 'adamw').total.value for s in (8, 16, 64, 256)]
    assert totals == sorted(totals, reverse=True)
    assert _memory(job, 64, 2, True, 'adamw').total.value > ours.total.value and _memory(job, 64, 1, False, 'adamw').total.value > ours.total.value > _memory(job, 64, 1, True, 'muon').total.value
    assert dry_run(c, gpus=64).params == SHAPES['llama-3-70b'].params


def test_the_best_layout_is_the_best_of_all_that_fit():
    job = _job('7B', 'llama', None, 4096, None)
    how = (64, 16, None, None, None, 'adamw', None)
    (m, shard, micro, twice), _ = _best(job, GPUS['H100'], *how)
    fit = [(s, b, c) for s in (1, 2, 4, 8, 16, 32, 64) for b in (1, 2, 4, 8, 16) for c in (False, True) if _memory(job, s, b, c, 'adamw', None).fits(80e9)]
    assert (shard, micro, twice) in fit and shard <= 8 and not twice and (1 - 1/shard)/micro == min((1 - 1/s)/b for s, b, c in fit if s <= 8 and not c)


@pytest.mark.parametrize('kw, ways', [(dict(what='70B', gpu='A100', gpus=16), ['gpus=32', "gpu='H200'"]), (dict(what='70B', gpus=64, checkpointing=False, micro=4), ['checkpointing=True']), (dict(what='7B', gpu='RTX4090', gpus=8), ["optimizer='muon'", 'gpus=16']),
                                      (dict(what='70B', gpus=64, shard=8), ['shard=64']), (dict(what='7B', gpus=8, optimizer='adamw8bit'), ["optimizer='adamw'"]), (dict(what='70B', gpus=32, micro=64, checkpointing=True), ['micro=1'])])
def test_the_error_says_what_would_help_and_it_does(kw, ways):
    with pytest.raises(ValueError, match='does not fit on') as e: dry_run(**kw)
    assert all(w in str(e.value) for w in ways) and str(e.value).count('\n') == 0
    for w in str(e.value).split('It would fit with ')[1].split('; or '):
        name, value = w.split(',')[0].split('=')
        change = {name: {'True': True}.get(value) or (int(value) if value.isdigit() else value.strip("'"))}
        if name == 'gpus' and kw.get('shard') == kw['gpus']: change['shard'] = None
        assert isinstance(dry_run(**kw | change), Layout), w


def test_a_training_that_is_planned_is_trained(material, tmp_path):
    cfg = TrainConfig(str(material/'packed'), str(material/'tok'), str(tmp_path/'out'), width=64, layers=2, context=32, batch=8, micro=3, steps=2, dtype='fp32')
    l = dry_run(cfg, 'L4', 2)
    assert (l.batch, l.micro, l.accumulation, l.shard, l.gpus, l.checkpointing) == (8, 3, 2, 1, 2, False)
    assert l.params == train(cfg)['params']
    small = dry_run(model_config('200K', vocab=1024, context=32), 'T4', 1, batch=256, tokens=512)
    done = train(TrainConfig(cfg.packed, cfg.tokenizer, str(tmp_path/'small'), steps=2, **small.settings))
    assert done['params'] == small.params and done['flops'] == pytest.approx(small.bill.flops.value)
    with pytest.raises(ValueError, match='divisor of the batch of 8'): dry_run(cfg, 'L4', 3)
    fsdp = dry_run(replace(cfg, parallel='fsdp', shard=2), 'L4', 4)
    assert fsdp.shard == 2 and fsdp.settings['shard'] == 2


@pytest.mark.parametrize('kw, says', [(dict(gpu='H1000'), 'expected one of A100'), (dict(gpus=0), 'gpus'), (dict(shard=3), 'divisor of gpus=8'), (dict(optimizer='sgd'), 'expected one of adamw'), (dict(micro=0), 'micro'), (dict(tokens='many'), 'tokens'), (dict(architecture='mamba'), 'llama, core'),
                                      (dict(what='1e3'), 'N='), (dict(what='3M', vocab=10**7), 'no llama of that size'), (dict(optimizer='adamw8bit', shard=8), 'cannot be sharded')])
def test_one_error_for_nonsense(kw, says):
    with pytest.raises(ValueError, match=says): dry_run(**dict(what='1B', gpus=8) | kw)


def test_another_model_is_refused(material):
    from transformers import GPT2Config
    with pytest.raises(ValueError, match='gpt2 is not possible'): dry_run(GPT2Config())
