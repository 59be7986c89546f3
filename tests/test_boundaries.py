"BoundaryLM: the future is unseen, smoothing is the recurrence, costs are counted, the ratio loss has its least where the paper says, chance is exact"
import math
import numpy as np, pytest, torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM
from hyperlex_nb.boundaries import BoundaryConfig, BoundaryLM, agreement, boundaries, boundary_config, boundary_cost, _Output, _Router, _smooth
from hyperlex_nb.evaluate import bits_per_byte
from hyperlex_nb.model import _ARCHITECTURES, load
from hyperlex_nb.tokenizer import train_tokenizer

SIZE = dict(vocab_size=300, width=64, layers=2, context=128, piece_width=32, piece_hidden=48, piece_layers=2, reach=4, target=4, ends=list(range(2, 60)))
RULES = 'learned', 'every', 'spaces'
TEXTS = ['Мама мыла раму, а потом (вечером) читала «Войну и мир».', 'В 1915 году вышла работа о бессознательном; её перевели.\n\nДа?']*20


@pytest.fixture(scope='module', params=RULES)
def model(request): return BoundaryLM.build(BoundaryConfig(**SIZE, rule=request.param), 0).eval()

@pytest.fixture(scope='module')
def letters(): return train_tokenizer((c for t in TEXTS for c in t), 400)

def draw(rows, n, seed=0): return torch.randint(2, 300, (rows, n), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_a_state_depends_on_the_past_alone_and_on_all_of_it(model):
    ids = draw(3, 40)
    whole, out = model(ids).logits, model.model(ids)
    assert out.boundary[:, 0].all() and 1 < out.boundary.float().sum(1).mean() < 40, 'some pieces begin a chunk, not all'
    for n in 1, 2, 3, 17, 39:
        assert torch.allclose(whole[:, :n], model(ids[:, :n]).logits, atol=1e-5)
        assert torch.equal(out.boundary[:, :n], model.model(ids[:, :n]).boundary)
    for at in 0, 7, 20:
        other = ids.clone()
        other[:, at] = 60 + (ids[:, at] - 59)%240 if model.config.rule == 'spaces' else 2 + (ids[:, at] - 1)%298
        moved = (model(other).logits - whole).abs().amax(-1) > 1e-6
        assert not moved[:, :at].any() and moved[:, at].all()
    far = ids.clone()
    far[:, 0] = (ids[:, 0] + 1)%300
    assert ((model(far).logits - whole)[:, 20:].abs().amax((1, 2)) > 1e-7).all(), 'the first piece is far out of the reach of the light layers: the large transformer carries it'


@torch.no_grad()
@pytest.mark.parametrize('side', ['left', 'right', 'within'])
def test_padding_says_nothing(model, side):
    ids, pad = draw(2, 30), torch.ones(2, 11, dtype=torch.long)
    x = torch.cat(dict(left=[pad, ids], right=[ids, pad], within=[ids[:, :13], pad, ids[:, 13:]])[side], 1)
    mask = x != 1
    want, got = model.model(ids), model.model(x, mask)
    assert torch.allclose(got.last_hidden_state[mask].view(2, 30, -1), want.last_hidden_state, atol=1e-5)
    assert torch.equal(got.boundary[mask].view(2, 30), want.boundary) and not got.boundary[~mask].any()
    assert torch.equal(model(x).logits, model(x, mask).logits) and torch.isfinite(got.last_hidden_state).all()


@torch.no_grad()
@pytest.mark.parametrize('kw', [dict(), dict(num_beams=3), dict(use_cache=True)])
def test_generation(model, kw):
    ids = draw(3, 12, seed=1)
    ids[0, :5] = 1
    wrote = model.generate(ids, attention_mask=ids != 1, max_new_tokens=8, do_sample=False, **kw)
    alone = model.generate(ids[:1, 5:], max_new_tokens=8, do_sample=False, pad_token_id=1, **kw)
    new = [w[w != 1].tolist() for w in (wrote[0, 12:], alone[0, 7:])]
    assert new[0] == new[1] and len(new[0]), 'a row says in a batch, padded, what it says alone'
    if 'num_beams' in kw: return
    row = ids[:1, 5:]
    for _ in new[1]: row = torch.cat([row, model(row).logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert row[0, 7:].tolist() == new[1]


def test_the_router_is_the_formula():
    r, g = _Router(BoundaryConfig(**SIZE)), torch.Generator().manual_seed(0)
    for p in r.parameters(): p.data = torch.randn(p.shape, generator=g)
    x = torch.randn(2, 9, 32, generator=g)
    p = r(x, draw(2, 9))
    for b in 0, 1:
        assert p[b, 0] == 1
        for t in range(1, 9):
            q, k = r.query.weight @ x[b, t], r.key.weight @ x[b, t - 1]
            assert p[b, t].item() == pytest.approx((1 - (q @ k/q.norm()/k.norm()).item())/2, abs=1e-5)


def test_given_boundaries_lie_where_they_should():
    ids = draw(2, 21)
    every, spaces = (BoundaryLM.build(BoundaryConfig(**SIZE, rule=rule)).eval() for rule in RULES[1:])
    with torch.no_grad():
        assert every.model(ids).boundary.nonzero()[:6, 1].tolist() == [0, 4, 8, 12, 16, 20]
        b = spaces.model(ids).boundary
    assert b[:, 0].all() and torch.equal(b[:, 1:], ids[:, 1:] < 60)


@pytest.mark.parametrize('low', [.5, .9999999])
def test_smoothing_is_the_recurrence(low):
    g = torch.Generator().manual_seed(3)
    z, p = torch.randn(2, 300, 5, generator=g, dtype=torch.double), low + (1 - low)*torch.rand(2, 300, generator=g, dtype=torch.double)
    got, mean = _smooth(z, p), torch.zeros(2, 5, dtype=torch.double)
    for t in range(300):
        q = p[:, t, None].float().clamp(1e-4, 1 - 1e-4).double()
        mean = q*z[:, t] + (1 - q)*mean
        assert torch.allclose(got[:, t].double(), mean, atol=1e-4)


def test_the_ratio_loss_is_least_where_the_wish_is_met():
    model = BoundaryLM(BoundaryConfig(**SIZE, weight=1.))
    x = draw(1, 1001)
    def loss(f, g):
        b = torch.arange(1000) < round(1000*f)
        return model.extra_loss(_Output(torch.zeros(1, 1000, 2), torch.full((1, 1000), g), b[None]), x).item()
    for f in .1, .25, .6, 1.:
        for g in .05, .25, .5: assert loss(f, g) == pytest.approx(4/3*(3*f*g + (1 - f)*(1 - g)), rel=1e-5)
    assert loss(.25, .25) == pytest.approx(1) and min(loss(f, f) for f in np.linspace(.01, 1, 100)) == pytest.approx(1, abs=1e-4)
    given = BoundaryLM(BoundaryConfig(**SIZE, rule='every'))
    assert given.extra_loss(given.model(x[:, :-1]), x).item() == 0


def test_confidence_counts_as_one_and_has_a_gradient():
    model = BoundaryLM.build(BoundaryConfig(**SIZE, weight=0.))
    ids = draw(2, 30)
    model(ids, labels=ids).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if 'router' in n), 'the text teaches the router without the ratio loss'
    p, b, x = torch.rand(2, 30), torch.rand(2, 30) > .5, torch.randn(2, 30, 32)
    b[:, 0] = True
    p = torch.where(b, .5 + p/2, p/2)
    with torch.no_grad():
        model.model.config.rule = 'every' # neither smoothing nor confidence
        plain = model.model.think(x, p, b)
        model.model.config.rule = 'learned'
        assert torch.allclose(model.model.think(x, b.float(), b), plain, atol=1e-3), 'sure boundaries change nothing'


def test_checkpointing_changes_no_gradient():
    ids, grads = draw(2, 30), []
    for save in False, True:
        model = BoundaryLM.build(BoundaryConfig(**SIZE), 0).train()
        if save: model.gradient_checkpointing_enable()
        model(ids, labels=ids).loss.backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*grads))


def test_training_settles_at_the_wish_and_learns():
    torch.manual_seed(0)
    model = BoundaryLM.build(BoundaryConfig(**SIZE | dict(target=3., weight=1.))).train()
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    word = lambda: [60 + i for i in np.random.default_rng(0).permutation(40)[:5]]
    row, log = torch.tensor((word() + [5])*40), []
    for step in range(60):
        x = torch.stack([row[i:i + 49] for i in range(4)])
        out = model.model(x[:, :-1])
        loss = torch.nn.functional.cross_entropy(model.lm_head(out.last_hidden_state).flatten(0, 1), x[:, 1:].flatten())
        (loss + model.extra_loss(out, x)).backward(); opt.step(); opt.zero_grad()
        log.append((loss.item(), out.boundary.float().mean().item()))
    assert log[-1][0] < .5 < 3 < log[0][0] and abs(np.mean([s for _, s in log[-10:]]) - 1/3) < .12


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('kw', [{}, dict(width=96, layers=3, piece_layers=1, piece_width=48, reach=6)])
def test_flops_equal_the_counter_of_torch(kw, rule):
    config = BoundaryConfig(**SIZE | kw, rule=rule)
    model = BoundaryLM.build(config)
    model.model.body.config._attn_implementation = 'eager'
    ids = torch.tensor([[5, 70, 80, 90]*10])
    m = int(model.model(ids).boundary.sum())
    want = boundary_cost(config, 40, 40/m)
    with FlopCounterMode(display=False) as there: loss = model(ids, labels=ids).loss
    with FlopCounterMode(display=False) as back: loss.backward()
    assert want.params == model.num_parameters() and there.get_total_flops() == pytest.approx(want.forward*40, rel=.002) and want.train == 3*want.forward
    there, back = ({str(k): v for k, v in c.get_flop_counts()['Global'].items()} for c in (there, back))
    for k in 'aten.mm', 'aten.bmm': assert back[k] == pytest.approx(2*there[k], rel=.02), 'torch counts the gradient of a grouped convolution as if it had one group; it is left out'
    assert boundary_cost(config, 40) == boundary_cost(config, 40, config.target)


def test_a_saved_model_is_a_stock_one(model, tmp_path):
    model.save_pretrained(tmp_path)
    ids = draw(2, 20)
    with torch.no_grad():
        for again in load(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path): assert torch.equal(again.eval()(ids).logits, model(ids).logits)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    a, b = BoundaryLM.build(BoundaryConfig(**SIZE), 3), BoundaryLM.build(BoundaryConfig(**SIZE), 3)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters())) and not torch.equal(a.lm_head.weight, BoundaryLM.build(BoundaryConfig(**SIZE), 4).lm_head.weight)
    assert torch.equal(a.model.router.query.weight, torch.eye(32))


def test_the_measure_of_the_book_takes_it(letters):
    model = BoundaryLM.build(boundary_config(letters, 32, 1, piece_width=32, context=64)).eval()
    b = bits_per_byte(model, letters, [dict(text=t, work=str(i)) for i, t in enumerate(TEXTS[:2])])
    want = sum(len(letters(t)['input_ids']) + 1 for t in TEXTS[:2])*math.log2(len(letters))/sum(len(t.encode()) for t in TEXTS[:2])
    assert b.value == pytest.approx(want, rel=.05), 'untrained, it knows nothing'
    starts, p = boundaries(model, letters, TEXTS[0])
    assert starts.tolist() == list(range(len(TEXTS[0]))), 'a piece is a letter'
    with torch.no_grad(): whole = model.model(torch.tensor([[letters.eos_token_id, *letters(TEXTS[0])['input_ids']]][:1])).probability[0, 1:]
    assert np.allclose(p, whole.numpy(), atol=1e-5)
    assert [letters.decode([i]) for i in model.config.ends if letters.decode([i]) == ' '] == [' '] and boundaries(model, letters, '')[0].shape == (0,)


def test_the_trainer_knows_its_cost(letters):
    from types import SimpleNamespace
    row = np.array([5, *letters('да и нет')['input_ids']]*50)
    for options, chunk in (dict(target=3., piece_width=32), 3), (dict(rule='spaces', piece_width=32), 9/2):
        config, new, price = _ARCHITECTURES['boundaries'](SimpleNamespace(width=32, layers=1, context=64, options=options), letters, row)
        assert price == boundary_cost(config, 64, chunk) and price.params == new(config, 0).num_parameters()
    with pytest.raises(ValueError, match='options: taget'): _ARCHITECTURES['boundaries'](SimpleNamespace(width=32, layers=1, context=64, options=dict(taget=3)), letters, row)


def test_agreement_and_chance():
    rng = np.random.default_rng(0)
    marks = [rng.random(400) < .2 for _ in range(30)]
    a = agreement(marks, marks)
    assert a['precision'] == a['recall'] == (1, 1, 1)
    inside, n = 0, 40
    for k in range(n): # cuts that know nothing: chance must cover them about as often as it says
        cuts = [rng.permutation(np.arange(400) < 90) for _ in marks]
        a = agreement(cuts, marks, seed=k)
        inside += a['chance precision'][1] <= a['precision'][0] <= a['chance precision'][2]
    assert a['chance precision'][0] == pytest.approx(np.mean(np.concatenate(marks)), abs=.01) and .85 <= inside/n
    assert a['chance recall'][0] == pytest.approx(90/400, abs=.01)
    for bad, says in (([marks[0]], marks), 'one array each'), (([], []), 'no cuts'), (([np.zeros(3)], [np.ones(3)]), 'no cuts'):
        with pytest.raises(ValueError, match=says): agreement(*bad)


@pytest.mark.parametrize('kw, says', [(dict(rule='some'), 'rule must be one of'), (dict(target=1), 'above 1'), (dict(target=float('nan')), 'above 1'), (dict(target=2.5, rule='every'), 'whole for'), (dict(ends=[300]), '300 is no id'), (dict(rule='spaces', ends=[]), 'boundary_config'),
                                      (dict(piece_width=65), 'at most the width'), (dict(reach=0), 'reach'), (dict(width=50), 'multiple of 32'), (dict(layers=0), 'layers')])
def test_sizes_that_cannot_be_built(kw, says):
    with pytest.raises(ValueError, match=says): BoundaryConfig(**SIZE | kw)
