"With everything off a variant is the baseline; n-grams see the past alone; patches foretell the next patch; costs are counted."
import pytest, torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM
from hyperlex_nb.model import baseline_config, build, known
from hyperlex_nb.variants import VariantLlama, build_variant, variant_config, variant_cost

def draw(rows, n, seed=0): return torch.randint(2, 300, (rows, n), generator=torch.Generator().manual_seed(seed))


def test_with_everything_off_it_is_the_baseline():
    a, b, x = build(baseline_config(300, 64, 2, 64), 4), build_variant(variant_config(300, 64, 2, 64), 4), draw(2, 40)
    with torch.no_grad(): assert torch.equal(a(x).logits, b(x).logits)
    assert b.extra_loss(b.model(x), draw(2, 41)) == 0 and b.num_parameters() == a.num_parameters()


@torch.no_grad()
@pytest.mark.parametrize('orders', [(2,), (3,), (2, 3, 5)])
def test_n_grams_see_the_past_and_only_it(orders):
    model, x = build_variant(variant_config(300, 32, 1, 64, gram_rows=256, gram_orders=orders), 0).eval(), draw(2, 30)
    vectors = model.model.read(x, x[:, :0])
    other = x.clone(); other[:, 10] = 2 + (x[:, 10] - 1) % 297
    moved = (model.model.read(other, x[:, :0]) != vectors).any(-1)[0]
    assert not moved[:10].any() and moved[10] and moved[10 + max(orders) - 1] and not moved[10 + max(orders):].any()
    assert torch.allclose(model.model.read(x[:, 12:], x[:, :12]), vectors[:, 12:]), 'in two parts as in one'


@torch.no_grad()
@pytest.mark.parametrize('kw', [dict(), dict(num_beams=3)])
def test_the_cache_and_padding_change_nothing(kw):
    model, x = build_variant(variant_config(300, 32, 2, 64, gram_rows=256), 0).eval(), draw(2, 12)
    x[0, :4] = 1
    a, b = (model.generate(x, attention_mask=(x != 1).long(), max_new_tokens=20, do_sample=False, use_cache=u, pad_token_id=1, **kw).tolist() for u in (True, False))
    assert a == b
    alone = model.generate(x[:1, 4:], max_new_tokens=20, do_sample=False, pad_token_id=1, **kw)[0, 8:].tolist()
    assert a[0][12:] == alone


@torch.no_grad()
def test_patches_foretell_the_next_patch_from_whole_ones():
    model, x = build_variant(variant_config(300, 32, 2, 64, patch=4), 0).eval(), draw(2, 32)
    out = model.model(input_ids=x).last_hidden_state
    for at in 0, 5, 18, 31: # a token may move only what is said after its whole patch
        other = x.clone(); other[:, at] = 2 + (x[:, at] - 1) % 297
        moved = (model.model(input_ids=other).last_hidden_state - out).abs().amax(-1)[0] > 1e-7
        assert moved.nonzero().flatten().tolist() == list(range(at//4*4 + 3, 32)), 'what foretells token t stands at t - 1'
    assert torch.equal(out[:, 3], out[:, 6]) and not torch.equal(out[:, 6], out[:, 7]) and not out[:, :3].any()
    with pytest.raises(ValueError, match='no whole number of patches'): model.model(input_ids=x[:, :30])
    with pytest.raises(ValueError, match='go on training it with patch=1'): model.generate(x, max_new_tokens=3)


def test_heads_ahead_learn_the_token_after_the_next():
    model, x = build_variant(variant_config(300, 32, 1, 64, ahead=2), 0), draw(2, 21)
    out = model.model(input_ids=x[:, :-1])
    h = out.last_hidden_state
    want = .15*sum(nn.functional.cross_entropy(model.lm_head(w(h[:, :n])).flatten(0, 1), x[:, 21 - n:].flatten()) for w, n in zip(model.ahead, (19, 18)))
    assert torch.allclose(model.extra_loss(out, x), want)


@pytest.mark.parametrize('kw', [dict(gram_rows=128), dict(gram_rows=128, gram_orders=(2, 4)), dict(patch=4), dict()])
def test_flops_equal_the_counter_of_torch(kw):
    c = variant_config(300, 64, 2, 64, **kw); c._attn_implementation = 'eager'
    model, x = build_variant(c, 0), draw(1, 65)
    with FlopCounterMode(display=False) as counter: nn.functional.cross_entropy(model.lm_head(model.model(input_ids=x[:, :-1], use_cache=False).last_hidden_state).flatten(0, 1), x[:, 1:].flatten()).backward()
    want = variant_cost(c, 64)
    assert want.params == model.num_parameters() and counter.get_total_flops() == pytest.approx(want.train*64, rel=.01)


def test_saved_and_loaded(tmp_path):
    model = build_variant(variant_config(300, 32, 1, 64, gram_rows=128, ahead=1), 0).eval()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad(): assert isinstance(again, VariantLlama) and torch.equal(again(draw(2, 9)).logits, model(draw(2, 9)).logits)


@pytest.mark.parametrize('kw, says', [(dict(gram_rows=100), 'power of two'), (dict(patch=0), 'patch'), (dict(patch=3), 'whole number of patches'), (dict(ahead=-1), 'ahead'), (dict(gram_orders=(1,)), 'gram_orders'), (dict(width=50), 'multiple of 32')])
def test_sizes_that_cannot_be(kw, says):
    with pytest.raises(ValueError, match=says): variant_config(**dict(vocab_size=300, width=32, layers=1, context=64) | kw)


def test_options_that_nobody_knows():
    with pytest.raises(ValueError, match='pach unknown to variant_config; it takes ahead'): known(dict(pach=4), variant_config)
