"Experts: a stock model of the dense model's operations, balanced layer by layer, its stacks moved as matrices, its routing counted right"
import json, math
from types import SimpleNamespace
import numpy as np, pytest, torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, MixtralForCausalLM
from hyperlex_nb.experts import Routing, StackedMuon, balanced, build_experts, expert_config, expert_cost, routing, _bits
from hyperlex_nb.model import _ARCHITECTURES, baseline_config, cost, load
from hyperlex_nb.pretrain import _Objective
from hyperlex_nb.tokenizer import encode, train_tokenizer

TEXTS = ['Мама мыла раму, а потом (вечером) читала «Войну и мир» 12 раз.', 'Старый дом стоял у реки, и никто в нём не жил.', 'Она быстро вышла из города и думала о доме.']*8


@pytest.fixture(scope='module')
def tok(): return train_tokenizer(TEXTS, 400)

@pytest.fixture(scope='module')
def model(tok): return build_experts(expert_config(len(tok), 64, 2, 32), 0).eval()

def draw(rows, n, top=300): return torch.randint(2, top, (rows, n), generator=torch.Generator().manual_seed(0))

def routed(chosen, experts, text=None, ids=None):
    "A `Routing` made by hand, of one layer"
    chosen = np.asarray(chosen)
    text = np.zeros(len(chosen), int) if text is None else np.asarray(text)
    return Routing(np.full((1, len(chosen), experts), 1/experts), chosen[None], np.zeros(len(chosen), int) if ids is None else ids, text, np.zeros(len(chosen), int), ['']*(text.max() + 1))


@pytest.mark.parametrize('kw', [{}, dict(experts=4), dict(experts=6, chosen=4), dict(experts=2)])
def test_flops_equal_the_counter_of_torch_and_the_dense_model(kw):
    config, dense = expert_config(300, 64, 3, 64, **kw), cost(baseline_config(300, 64, 3, 64), 40)
    model, want, ids = build_experts(config), expert_cost(config, 40), draw(2, 40)
    model.config._attn_implementation = 'eager'
    model.set_experts_implementation('eager')
    with FlopCounterMode(display=False) as counter: model(ids, labels=ids).loss.backward()
    assert want.params == model.num_parameters() and counter.get_total_flops() == pytest.approx(want.train*80, rel=.01)
    router = 3*64*config.num_local_experts
    assert want.forward - dense.forward == 2*router and want.active - dense.active == router


@torch.no_grad()
def test_every_expert_equal_is_the_dense_model():
    "If all experts hold the same slice twice over, their weighted sum is a dense block, whoever is chosen."
    model = build_experts(expert_config(300, 64, 1, 64)).eval()
    e, ids = model.model.layers[0].mlp.experts, draw(1, 20)
    e.gate_up_proj[:], e.down_proj[:] = e.gate_up_proj[:1].clone(), e.down_proj[:1].clone()
    block = model.model.layers[0].mlp
    x = torch.randn(1, 9, 64)
    gate, up = (x @ e.gate_up_proj[0].T).chunk(2, -1)
    assert torch.allclose(block(x), (nn.functional.silu(gate)*up) @ e.down_proj[0].T, atol=1e-6)


def test_the_folder_is_stock(tok, tmp_path):
    model = build_experts(expert_config(len(tok), 64, 2, 32), 1).eval()
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path/'config.json').read_text())
    assert saved['architectures'] == ['MixtralForCausalLM'] and saved['model_type'] == 'mixtral' and not saved['output_router_logits'] and not [k for k in saved if 'hyperlex' in k]
    ids = draw(2, 20)
    for again in load(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path):
        assert type(again) is MixtralForCausalLM and not hasattr(again, 'extra_loss')
        with torch.no_grad(): assert torch.allclose(again.eval()(ids).logits, model(ids).logits, atol=1e-5)
    again = balanced(again).train()
    assert _Objective(again, 'fp32')(ids)[1].item() == pytest.approx(_Objective(model.train(), 'fp32')(ids)[1].item(), rel=1e-4), 'a loaded model can be made ready again'
    a = model.eval().generate(ids, max_new_tokens=6, do_sample=False)
    assert a.tolist() == again.eval().generate(ids, max_new_tokens=6, do_sample=False).tolist()


def test_the_trainers_loss_is_the_stock_one_and_balance_comes_on_top(tok):
    model, ids = build_experts(expert_config(len(tok), 64, 2, 32, balance=.5), 0).train(), draw(2, 21)
    loss, more = _Objective(model, 'fp32')(ids)
    z = model(ids[:, :-1]).logits
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(z.flatten(0, 1), ids[:, 1:].flatten()).item(), rel=1e-5)
    assert 2*2*.5 <= more.item() < 2*2*.5*1.2, 'two layers, two chosen, nearly even at the start'
    more.backward()
    for layer in model.model.layers: assert layer.mlp.gate.weight.grad.abs().sum() > 0
    model.eval()
    assert model.model(input_ids=ids).get('router_logits') is None and model(ids, labels=ids).aux_loss is None


def test_balance_is_kept_in_every_layer():
    "Two layers that each use one half of the experts only: evened out over both, and uneven in each."
    model = build_experts(expert_config(300, 32, 2, balance=1.))
    def scores(high): return torch.where(torch.isin(torch.arange(8), torch.tensor(high)), 9., 0.).expand(60, 8) + torch.rand(60, 8, generator=torch.Generator().manual_seed(0))*.1
    def loss(a, b): return model.extra_loss(SimpleNamespace(router_logits=(scores(a), scores(b))), None).item()
    even = model.extra_loss(SimpleNamespace(router_logits=(torch.zeros(60, 8),)*2), None).item()
    assert even == pytest.approx(4) and loss([0, 1, 2, 3], [4, 5, 6, 7]) == pytest.approx(loss([0, 1, 2, 3], [0, 1, 2, 3]), rel=.01) and loss([0, 1, 2, 3], [4, 5, 6, 7]) > 1.8*even


@pytest.mark.parametrize('dicts', [True, False])
def test_a_stack_moves_as_its_matrices(dicts):
    g = torch.Generator().manual_seed(0)
    draw = lambda *s: torch.randn(*s, generator=g)
    stack, one = nn.Parameter(draw(3, 6, 4)), nn.Parameter(draw(5, 4))
    apart, single = [nn.Parameter(m.clone()) for m in stack.detach()], nn.Parameter(one.detach().clone())
    kw = dict(lr=.05, weight_decay=.1, adjust_lr_fn='match_rms_adamw')
    ours = StackedMuon([dict(params=[stack, one], base=1.)] if dicts else iter([stack, one]), **kw)
    stock = torch.optim.Muon([*apart, single], **kw)
    for step in range(4):
        stack.grad, one.grad = draw(3, 6, 4), draw(5, 4)
        for q, m in zip(apart, stack.grad): q.grad = m.clone()
        single.grad = one.grad.clone()
        if step == 2: stack.grad = None; [setattr(q, 'grad', None) for q in apart] # no token came
        for o in ours, stock: o.step(); o.zero_grad()
        assert torch.equal(stack.detach(), torch.stack([q.detach() for q in apart])) and torch.equal(one, single) and stack.grad is None and one.grad is None
    assert len(ours.param_groups[0]['params']) == 4 and (not dicts or ours.param_groups[0]['base'] == 1.)
    stack.grad = draw(3, 6, 4)
    ours.zero_grad(set_to_none=False)
    assert not stack.grad.any()
    sharded = nn.Parameter(draw(3, 6, 4))
    sharded.device_mesh = 'two'
    with pytest.raises(ValueError, match="parallel='ddp'"): StackedMuon([sharded])


def test_routing_is_what_the_layers_did(model, tok):
    texts = TEXTS[:3] + ['', 'я ' + 'дом '*60] # one longer than the context, one empty
    r, ids = routing(model, tok, texts), list(encode(tok, texts))
    assert r.ids.tolist() == sum(ids, []) and r.text.tolist() == sum(([k]*len(i) for k, i in enumerate(ids)), [])
    seen = []
    hook = model.model.layers[1].mlp.gate.register_forward_hook(lambda m, a, out: seen.append((out[0].softmax(-1), out[2])))
    with torch.no_grad(): model(torch.tensor([[tok.eos_token_id, *ids[1]]]))
    hook.remove()
    mine = r.text == 1
    assert np.allclose(r.probability[1, mine], seen[0][0][1:].numpy(), atol=1e-5) and (r.chosen[1, mine] == seen[0][1][1:].numpy()).all()
    assert np.allclose(r.load().sum(1), 1) and r.load().shape == (2, 8) and np.allclose(r.probability.sum(-1), 1, atol=1e-5)
    assert (0 < r.entropy()).all() and (r.entropy() <= 3 + 1e-6).all() and not model.training
    with pytest.raises(ValueError, match='no tokens'): routing(model, tok, [''])


def test_entropy_and_load_of_known_routers():
    r = routed([[0, 1], [0, 2], [0, 3], [0, 1]], 4)
    assert r.load().tolist() == [[.5, .25, .125, .125]] and r.entropy()[0] == pytest.approx(2)
    r.probability = np.eye(4)[None]
    assert r.entropy()[0] == pytest.approx(0, abs=1e-9)


def test_a_token_has_the_class_of_its_word(model, tok):
    text = 'Мама, быстро читала 12 рам; we и я.'
    r = routing(model, tok, [text, '', text])
    kinds = r.classes()
    assert len(kinds) == len(r.ids) and kinds[r.text == 0].tolist() == kinds[r.text == 2].tolist()
    ends = r.ends[r.text == 0]
    at = {text[e - 1]: k for e, k in zip(ends, kinds) if text[e - 1] in 'о,2;еия.'}
    assert at[','] == at['2'] == at[';'] == at['.'] == 'sign' and at['о'] == 'ADVB' and at['и'] == 'CONJ' and at['я'] == 'NPRO'
    assert kinds[list(ends).index(text.index('читала') + 6)] == 'VERB' and kinds[list(ends).index(4)] == 'NOUN' and kinds[list(ends).index(text.index('we') + 2)] == 'LATN'


def test_information_of_known_tables():
    assert _bits(np.eye(4)) == pytest.approx(2) and _bits(np.ones((3, 5))) == pytest.approx(0, abs=1e-12)
    assert _bits(np.array([[1, 0], [0, 0]])) == 0 and np.allclose(_bits(np.stack([np.eye(2), np.ones((2, 2))])), [1, 0])
    p = np.array([[.4, .1], [.1, .4]])
    assert _bits(p*1000) == pytest.approx(2 - (-2*(.4*math.log2(.4) + .1*math.log2(.1))))


def test_information_finds_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    text = np.repeat(np.arange(40), 50)
    labels = rng.integers(0, 3, 2000)
    told = np.stack([labels, rng.integers(3, 8, 2000)], 1) # one choice says all, the other nothing
    (bits, low, high, chance), = routed(told, 8, text).information(labels)
    assert low < bits < high and bits + chance == pytest.approx(_bits(np.stack([np.bincount(labels[(told == e).any(1)], minlength=3) for e in range(8)])), abs=1e-9) and .75 < bits and chance < .02
    covered = 0
    for k in range(20):
        (bits, low, high, _), = routed(rng.permuted(np.tile(np.arange(8), (2000, 1)), axis=1)[:, :2], 8, text).information(labels, seed=k, draws=60)
        covered += low <= 0 <= high
    assert covered >= 15, 'an expert that knows nothing is found to know nothing'


def test_a_label_of_a_text_is_shuffled_among_texts():
    "Each text has experts of its own, whatever its label: shuffled over tokens that would look like knowledge of the label."
    rng = np.random.default_rng(1)
    text = np.repeat(np.arange(30), 60)
    favourite = rng.integers(0, 6, 30)
    chosen = np.stack([favourite[text], (favourite[text] + rng.integers(1, 6, 1800))%6], 1)
    found = []
    for k in range(15):
        label = np.random.default_rng(k).integers(0, 2, 30)
        r = routed(chosen, 6, text)
        found.append((r.information(label, seed=k, draws=60)[0], r.information(label[text], seed=k, draws=60)[0]))
    by_text, by_token = np.array(found).transpose(1, 0, 2)
    assert abs(by_text[:, 0].mean()) < .02 < by_token[:, 0].mean() and by_text[:, 3].min() > 5*by_token[:, 3].max()
    with pytest.raises(ValueError, match='7 labels for 1800 tokens of 30 texts'): routed(chosen, 6, text).information([0]*7)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    config = expert_config(300, 32, 1)
    a, b = build_experts(config, 3), build_experts(config, 3)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters())) and not torch.equal(a.model.embed_tokens.weight, build_experts(config, 4).model.embed_tokens.weight)


def test_the_trainer_knows_it(tok):
    config, new, price = _ARCHITECTURES['experts'](SimpleNamespace(width=64, layers=2, context=32, options=dict(experts=4)), tok, None)
    assert price == expert_cost(config, 32) and price.params == new(config, 0).num_parameters() and config.num_local_experts == 4 and config.rope_parameters == baseline_config(300, 64, 2).rope_parameters
    with pytest.raises(ValueError, match='options: expert '): _ARCHITECTURES['experts'](SimpleNamespace(width=64, layers=2, context=32, options=dict(expert=4)), tok, None)


@pytest.mark.parametrize('kw, says', [(dict(chosen=1), 'learns nothing'), (dict(chosen=9), 'at most the number of experts'), (dict(experts=1), 'experts must be'), (dict(experts=4., ), 'experts must be'), (dict(chosen=5), 'not divisible by chosen=5'), (dict(balance=-1), 'balance'), (dict(balance=float('nan')), 'balance'), (dict(width=50), 'multiple of 32')])
def test_sizes_that_cannot_be_built(kw, says):
    with pytest.raises(ValueError, match=says): expert_config(**dict(vocab_size=300, width=64, layers=2) | kw)
