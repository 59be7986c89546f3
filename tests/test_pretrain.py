import json, math, os, shutil, signal, subprocess, sys, time
from dataclasses import asdict, replace
import numpy as np, pytest, torch, torch.nn.functional as F
from hyperlex_nb.corpus import read
from hyperlex_nb.model import baseline_config, build, load
from hyperlex_nb.pretrain import TrainConfig, _Blocks, _HeadLoss, _newest, _Objective, _optimizers, _scale, main, pack, train
from hyperlex_nb.tokenizer import load_tokenizer


@pytest.fixture
def cfg(material, tmp_path):
    return TrainConfig(str(material/'packed'), str(material/'tok'), str(tmp_path/'out'), width=32, layers=1, context=32, batch=8, micro=8, steps=12, save_every=4, log_every=1)


def same(a, b): return all(torch.equal(x, y) for x, y in zip(load(a).state_dict().values(), load(b).state_dict().values()))


# ---- data

def test_pack_equals_the_naive_way_and_is_kept(material, tmp_path):
    tok = load_tokenizer(material/'tok')
    naive = [i for d in read(material/'corpus', 'train') for i in tok(d['text']).input_ids + [tok.eos_token_id]]
    m = pack(material/'corpus', material/'tok', tmp_path/'p')
    row = np.fromfile(tmp_path/'p'/'tokens.bin', m['dtype'])
    assert row.tolist() == naive and m['tokens'] == len(naive) and m['bytes'] == sum(len(d['text'].encode()) for d in read(material/'corpus', 'train'))
    before = (tmp_path/'p'/'tokens.bin').stat().st_mtime_ns
    assert pack(material/'corpus', material/'tok', tmp_path/'p') == m and (tmp_path/'p'/'tokens.bin').stat().st_mtime_ns == before


def test_every_position_is_predicted_once_an_epoch(material):
    blocks = _Blocks(material/'packed', 32, seed=1)
    for epoch in 0, 1:
        starts = []
        for i in range(epoch * blocks.n, (epoch + 1) * blocks.n): blocks(i); starts.append(int(blocks.order[i % blocks.n]))
        assert sorted(starts) == list(range(blocks.n))
    again = _Blocks(material/'packed', 32, seed=1)
    assert torch.equal(again.batch(blocks.n - 2, 5), blocks.batch(blocks.n - 2, 5))  # across the border of an epoch, in any order of asking
    assert not torch.equal(again.batch(0, 5), again.batch(blocks.n, 5))


def test_cut_and_short_data(material, tmp_path):
    shutil.copytree(material/'packed', tmp_path/'p')
    with open(tmp_path/'p'/'tokens.bin', 'r+b') as f: f.truncate(1000)
    with pytest.raises(ValueError, match='it was cut; pack it again'): _Blocks(tmp_path/'p', 32, 0)
    with pytest.raises(ValueError, match='too few for a context'): _Blocks(material/'packed', 10**8, 0)
    with pytest.raises(FileNotFoundError, match='no packed corpus'): train(TrainConfig(str(tmp_path/'none'), str(material/'tok'), str(tmp_path/'o')))


# ---- arithmetic

def test_gradient_of_the_sliced_loss():
    torch.manual_seed(0)
    h, w, t = torch.randn(37, 8, dtype=torch.float64), torch.randn(50, 8, dtype=torch.float64), torch.randint(0, 50, (37,))
    for rows in 1, 10, 37, 100:
        a, b = h.clone().requires_grad_(), w.clone().requires_grad_()
        loss = _HeadLoss.apply(a, b, t, rows); (3 * loss).backward()
        c, d = h.clone().requires_grad_(), w.clone().requires_grad_()
        stock = F.cross_entropy(c @ d.T, t); (3 * stock).backward()
        assert loss.item() == pytest.approx(stock.item(), rel=1e-6) and torch.allclose(a.grad, c.grad, rtol=1e-4, atol=1e-7) and torch.allclose(b.grad, d.grad, rtol=1e-4, atol=1e-6)


def test_loss_equals_that_of_transformers(material):
    model, x = build(baseline_config(1024, 32, 2, 32)), _Blocks(material/'packed', 32, 0).batch(0, 4)
    with torch.no_grad(): want = F.cross_entropy(model(input_ids=x[:, :-1]).logits.flatten(0, 1), x[:, 1:].flatten()).item()
    assert _Objective(model, 'fp32')(x)[0].item() == pytest.approx(want, rel=1e-5) and _Objective(model, 'bf16')(x)[0].item() == pytest.approx(want, rel=1e-2)


def test_schedule(cfg):
    c = replace(cfg, steps=100, warmup=.1, decay=.4)
    s = [_scale(c, i) for i in range(100)]
    assert s[0] == .1 and s[9] == s[59] == 1 and s[-1] == pytest.approx(1 / 40) and all(a <= b for a, b in zip(s[:10], s[1:10])) and all(a >= b for a, b in zip(s[60:], s[61:]))


def test_muon_has_the_matrices_and_adamw_the_rest(cfg):
    model = build(baseline_config(1024, 32, 2, 32))
    muon, adamw = _optimizers(model, replace(cfg, optimizer='muon'))
    names = {id(p): n for n, p in model.named_parameters()}
    of = lambda o: {names[id(p)] for g in o.param_groups for p in g['params']}
    assert len(of(muon)) == 14 and all('proj' in n for n in of(muon)) and of(muon) | of(adamw) == set(names.values()) and not of(muon) & of(adamw)
    assert [g['weight_decay'] for g in adamw.param_groups] == [.1, 0] and all('norm' in names[id(p)] for p in adamw.param_groups[1]['params'])


@pytest.mark.parametrize('kw, word', [(dict(steps=0), 'steps'), (dict(lr=-1), 'lr'), (dict(lr=float('nan')), 'lr'), (dict(dtype='fp8'), 'dtype'), (dict(parallel='tp'), 'parallel'), (dict(warmup=.9), 'warmup')])
def test_settings_that_cannot_work(kw, word):
    with pytest.raises(ValueError, match=word): TrainConfig('p', 't', 'o', **kw)


# ---- resuming

@pytest.mark.parametrize('optimizer', ['adamw', 'muon', 'adamw8bit'])
def test_resumed_equals_uninterrupted_bit_by_bit(cfg, tmp_path, optimizer):
    a, b = (replace(cfg, optimizer=optimizer, out=str(tmp_path/n)) for n in 'ab')
    whole = train(a)
    train(b); shutil.rmtree(tmp_path/'b'/'checkpoint-0000012'); shutil.rmtree(tmp_path/'b'/'model')  # as after a kill between two checkpoints
    again = train(b)
    assert again == whole and same(tmp_path/'a'/'model', tmp_path/'b'/'model') and whole['log'][-1][1] < whole['log'][0][1]
    assert sorted(p.name for p in (tmp_path/'a').glob('checkpoint-*')) == ['checkpoint-0000008', 'checkpoint-0000012']
    assert not [p for p in tmp_path.rglob('*') if p.suffix in ('.pt', '.bin', '.pkl', '.pth')]


def test_accumulation_changes_nothing_but_rounding(cfg, tmp_path):
    a, b = (train(replace(cfg, dtype='fp32', micro=m, out=str(tmp_path/str(m))))['log'][-1][1] for m in (8, 3))
    assert a == pytest.approx(b, abs=1e-4)


def test_a_checkpoint_cut_in_half_falls_back_to_the_one_before(cfg, tmp_path, capsys):
    whole = train(cfg); out = tmp_path/'out'
    for f in 'model.safetensors', 'optimizer.safetensors':
        data = (out/'checkpoint-0000012'/f).read_bytes(); (out/'checkpoint-0000012'/f).write_bytes(data[:len(data) // 2])
        assert train(cfg) == whole and 'checkpoint passed over: checkpoint-0000012' in capsys.readouterr().err
    state = out/'checkpoint-0000012'/'state.json'; state.write_text(state.read_text()[:20])
    assert _newest(out).name == 'checkpoint-0000008'


def test_no_whole_checkpoint_is_one_error_and_nothing_is_lost(cfg, tmp_path):
    train(cfg); out = tmp_path/'out'
    for c in out.glob('checkpoint-*'): (c/'model.safetensors').write_bytes(b'x')
    before = sorted(p for p in out.rglob('*'))
    with pytest.raises(ValueError, match='no whole checkpoint in out: checkpoint-0000012.*checkpoint-0000008.*Restore one'): train(cfg)
    assert sorted(p for p in out.rglob('*')) == before


def test_other_settings_do_not_mix(cfg):
    train(cfg)
    with pytest.raises(ValueError, match=r'other settings \(lr\)'): train(replace(cfg, lr=1.))


def test_full_disk_while_saving(cfg, small_disk):
    with pytest.raises(OSError, match='the disk is full'): train(replace(cfg, width=128, out=str(small_disk/'out')))
    assert not list((small_disk/'out').glob('checkpoint-*')) and not [p for p in (small_disk/'out').iterdir() if p.suffix == '.tmp']


# ---- the entry

def test_entry_refuses_unknown_settings(tmp_path):
    (tmp_path/'c.json').write_text(json.dumps(dict(packed='p', tokenizer='t', out='o', widht=3)))
    with pytest.raises(SystemExit, match='widht'): main(tmp_path/'c.json')
    with pytest.raises(SystemExit, match='no configuration'): main(tmp_path/'none.json')


def test_optimizer_that_is_not_installed(cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, 'bitsandbytes.optim', None)
    with pytest.raises(ImportError, match=r'hyperlex\[gpu\]'): train(replace(cfg, optimizer='adamw8bit'))


# ---- another architecture

def test_gpt2_trains_by_the_same_trainer_and_loads_as_stock(cfg, material):
    from transformers import AutoModelForCausalLM, GPT2LMHeadModel
    r = train(replace(cfg, architecture='gpt2', lr=1e-3, embed_lr=1e-3))
    model = AutoModelForCausalLM.from_pretrained(cfg.out + '/model')
    assert type(model) is GPT2LMHeadModel and r['params'] == model.num_parameters() and r['log'][-1][1] < r['log'][0][1]
    x = _Blocks(material/'packed', 32, seed=0).batch(0, 2)
    ours = _Objective(model, 'fp32')(x)[0].item()
    assert ours == pytest.approx(model(input_ids=x[:, :-1]).logits.flatten(0, 1).log_softmax(-1).gather(1, x[:, 1:].reshape(-1, 1)).mean().neg().item(), rel=1e-5)
