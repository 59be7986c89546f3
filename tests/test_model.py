import shutil, sys
import pytest, torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from hyperlex_nb.model import baseline_config, build, cost, load


def test_parameters_of_a_published_model():
    "Llama-7B: 6,738,415,616 weights (Touvron et al. 2023, Meta's release)."
    c = baseline_config(32000, 4096, 32, 2048)
    c.intermediate_size, c.tie_word_embeddings, c.num_attention_heads, c.num_key_value_heads = 11008, False, 32, 32
    assert cost(c, 2048).params == 6_738_415_616


@pytest.mark.parametrize('v, w, n, t, kv, tied', [(300, 64, 2, 16, None, True), (5000, 96, 3, 64, None, False), (1000, 256, 2, 128, 1, True)])
def test_flops_equal_the_counter_of_torch(v, w, n, t, kv, tied):
    c = baseline_config(v, w, n, t)
    c.tie_word_embeddings, c._attn_implementation = tied, 'eager'
    if kv: c.num_key_value_heads = kv
    with torch.device('meta'): model, ids = LlamaForCausalLM(c), torch.zeros(1, t, dtype=torch.long)
    with FlopCounterMode(display=False) as counter: model(input_ids=ids, labels=ids).loss.backward()
    want = cost(c, t)
    assert want.params == sum(p.numel() for p in model.parameters())
    assert counter.get_total_flops() == pytest.approx(want.train * t, rel=2e-3)  # the rotary table is left out


def test_weights_do_not_depend_on_what_was_drawn_before():
    c = baseline_config(300, 64, 2, 16)
    a = build(c, 3); before = torch.random.get_rng_state()
    torch.randn(100); state = torch.random.get_rng_state(); b = build(c, 3)
    assert torch.equal(torch.random.get_rng_state(), state) and not torch.equal(before, state)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert not torch.equal(build(c, 4).lm_head.weight, a.lm_head.weight)


@pytest.mark.parametrize('kw, name', [(dict(width=100), 'width'), (dict(layers=0), 'layers'), (dict(vocab_size=-5), 'vocab_size'), (dict(context=2.5), 'context')])
def test_sizes_that_cannot_be_built(kw, name):
    with pytest.raises(ValueError, match=name): baseline_config(**{**dict(vocab_size=300, width=64, layers=2), **kw})


@pytest.fixture
def folder(tmp_path):
    build(baseline_config(512, 128, 2, 32)).save_pretrained(tmp_path/'m')
    return tmp_path/'m'


def test_anyone_loads_it(folder):
    assert type(AutoModelForCausalLM.from_pretrained(folder)) is LlamaForCausalLM


@pytest.mark.parametrize('keep', [0, 5, 200, .5, .99])
def test_a_cut_file_is_one_clear_error(folder, keep):
    f = folder/'model.safetensors'; data = f.read_bytes()
    f.write_bytes(data[:int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match='model.safetensors in m is damaged or cut short'): load(folder)


def test_no_model_there(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no model'): load(tmp_path)


def test_bits(folder, monkeypatch):
    x = torch.arange(32)[None]
    with torch.no_grad(): full, four, eight = (load(folder, bits=b)(input_ids=x).logits.float() for b in (None, 4, 8))
    assert type(load(folder, bits=4).model.layers[0].mlp.up_proj).__name__ == 'Linear4bit'
    assert 0 < (eight - full).norm() / full.norm() < .1 and 0 < (four - full).norm() / full.norm() < .5
    with pytest.raises(ValueError, match='None, 8 or 4'): load(folder, bits=3)
    build(baseline_config(512, 32, 1, 32)).save_pretrained(folder.parent/'narrow')
    with pytest.raises(ValueError, match='hidden_size is 32'): load(folder.parent/'narrow', bits=4)
    monkeypatch.setitem(sys.modules, 'bitsandbytes', None)
    with pytest.raises(ImportError, match=r'hyperlex\[gpu\]'): load(folder, bits=4)


def test_qlora_step_on_four_bits(folder):
    "Plain peft on a model loaded in 4 bits: the adapters learn, the base does not move."
    from peft import LoraConfig, get_peft_model
    model = get_peft_model(load(folder, bits=4), LoraConfig(r=4, target_modules=['q_proj', 'v_proj'], task_type='CAUSAL_LM'))
    x = torch.arange(32)[None]
    base = model.base_model.model.model.layers[0].mlp.up_proj.weight.clone()
    opt, losses = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2), []
    for _ in range(4):
        loss = model(input_ids=x, labels=x).loss; loss.backward(); opt.step(); opt.zero_grad(); losses.append(loss.item())
    assert losses[-1] < losses[0] and torch.equal(base, model.base_model.model.model.layers[0].mlp.up_proj.weight)
