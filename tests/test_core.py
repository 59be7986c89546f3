"HyperCore: the future is unseen, the cache is exact, costs are counted, bad sizes are named"
import math
import pytest, torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM
from hyperlex_nb.chunks import chunk_ends, train_chunks
from hyperlex_nb.core import CoreConfig, HyperCore, core_config, core_cost, _cut, _fold
from hyperlex_nb.evaluate import bits_per_byte
from hyperlex_nb.model import load
from hyperlex_nb.tokenizer import encode, train_tokenizer

SIZE = dict(vocab_size=300, width=32, layers=2, context=128, piece_width=32, piece_hidden=64, word_rows=64, prefix_rows=128, longest=4, ends=list(range(100, 200)))
TEXTS = ['Мама мыла раму, а потом (вечером) читала «Войну и мир».', 'В 1915 году вышла работа о бессознательном; её перевели.\n\nДа?']*20


@pytest.fixture(scope='module')
def model(): return HyperCore.build(CoreConfig(**SIZE), 0).eval()

def draw(rows, n, seed=0): return torch.randint(2, 300, (rows, n), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_a_state_depends_on_the_past_alone_and_on_all_of_it(model):
    ids = draw(3, 40)
    whole = model(ids).logits
    for n in 1, 2, 3, 17, 39: assert torch.allclose(whole[:, :n], model(ids[:, :n]).logits, atol=1e-5)
    for at in 0, 7, 20:
        other = ids.clone()
        other[:, at] = 2 + (ids[:, at] - 1) % 297
        moved = (model(other).logits - whole).abs().amax(-1) > 1e-6
        assert not moved[:, :at].any() and moved[:, at].all() and moved[:, -1].all()


@torch.no_grad()
@pytest.mark.parametrize('side', ['left', 'right'])
def test_padding_says_nothing(model, side):
    ids, pad = draw(2, 30), torch.ones(2, 11, dtype=torch.long)
    x = torch.cat([pad, ids] if side == 'left' else [ids, pad], 1)
    got = model(x).logits
    assert torch.allclose(got[:, 11:] if side == 'left' else got[:, :30], model(ids).logits, atol=1e-5)
    assert torch.isfinite(got).all()


@torch.no_grad()
@pytest.mark.parametrize('kw', [dict(), dict(num_beams=3), dict(num_beams=2, num_return_sequences=2)])
def test_the_cache_changes_nothing(model, kw):
    ids = draw(3, 12, seed=1)
    ids[0, :5] = 1 # padded on the left
    ids[1] = torch.arange(2, 14) # no chunk ends but by length
    a, b = (model.generate(ids, attention_mask=ids != 1, max_new_tokens=30, do_sample=False, use_cache=u, **kw) for u in (True, False))
    assert a.tolist() == b.tolist()
    out = model(ids, use_cache=True)
    more = torch.cat([ids, draw(3, 9, seed=2)], 1) # several pieces at once
    assert torch.allclose(model(more, past_key_values=out.past_key_values, use_cache=True).logits, model(more).logits[:, 12:], atol=1e-5)
    with pytest.raises(NotImplementedError, match='read the text again'): out.past_key_values.crop(3)


def test_chunks_are_cut_at_their_ends_and_at_the_longest():
    ends = torch.zeros(300, dtype=torch.bool)
    ends[100:200] = True
    ids = torch.tensor([[1, 5, 6, 150, 5, 6, 7, 8, 9, 150]])
    place, last, h = _cut(ids, ids != 1, ends, 4)
    assert place.tolist() == [[0, 0, 1, 2, 0, 1, 2, 3, 0, 1]] and last.nonzero()[:, 1].tolist() == [3, 7, 9]
    assert h[0, 2] == h[0, 5] != h[0, 1] and h[0, 1] == h[0, 4], 'the same beginning, the same hash, wherever it stands'
    many = torch.stack(torch.meshgrid(torch.arange(2, 98), torch.arange(2, 98), indexing='ij'), -1).flatten(0, 1)
    rows = _fold(_cut(many, many > 0, ends, 4)[2][:, 1], 2**14)
    assert rows.min() >= 0 and rows.max() < 2**14 and len(rows.unique()) > .9*2**14*(1 - (1 - 2**-14)**len(rows)), 'as even as chance'


@pytest.mark.parametrize('kw', [{}, dict(width=64, layers=3, piece_layers=2, piece_width=48, piece_hidden=96)])
def test_flops_equal_the_counter_of_torch(kw):
    config = CoreConfig(**SIZE | kw)
    config._attn_implementation = 'eager'
    model = HyperCore.build(config)
    model.model.body.config._attn_implementation = 'eager'
    ids = torch.tensor([[5, 6, 150]*40])
    with FlopCounterMode(display=False) as counter: model(ids, labels=ids).loss.backward()
    want = core_cost(config, 40, 3.)
    assert want.params == model.num_parameters() and counter.get_total_flops() == pytest.approx(want.train*40, rel=.02) # the gradient of the first input, the rotary table and the state before the text


def test_a_saved_model_is_a_stock_one(model, tmp_path):
    model.save_pretrained(tmp_path)
    ids = draw(2, 20)
    with torch.no_grad():
        for again in load(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path): assert torch.equal(again.eval()(ids).logits, model(ids).logits)
    (tmp_path/'model.safetensors').write_bytes((tmp_path/'model.safetensors').read_bytes()[:-100])
    with pytest.raises(ValueError, match='damaged or cut short'): load(tmp_path)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    a, b = HyperCore.build(CoreConfig(**SIZE), 3), HyperCore.build(CoreConfig(**SIZE), 3)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters())) and not torch.equal(a.lm_head.weight, HyperCore.build(CoreConfig(**SIZE), 4).lm_head.weight)


def test_bits_sum_to_one_over_all_that_may_follow(model):
    "A distribution over strings: the chances of all continuations of two pieces sum to one."
    few = HyperCore.build(CoreConfig(**SIZE | dict(vocab_size=12, ends=[4, 7, 11])), 1).eval()
    pairs = torch.cartesian_prod(torch.tensor([5]), torch.arange(12), torch.arange(12))
    with torch.no_grad(): p = few(pairs, attention_mask=torch.ones_like(pairs)).logits.log_softmax(-1)
    chance = (p[:, 0].gather(1, pairs[:, 1:2]) + p[:, 1].gather(1, pairs[:, 2:3])).exp()
    assert chance.sum().item() == pytest.approx(1, abs=1e-5)


def test_the_measure_of_the_book_takes_it():
    tok = train_chunks(iter(TEXTS), 700)
    model = HyperCore.build(core_config(tok, 32, 1, piece_width=32, context=64, word_rows=64, prefix_rows=64))
    b = bits_per_byte(model, tok, [dict(text=t, work=str(i)) for i, t in enumerate(TEXTS[:2])])
    want = sum(len(i) + 1 for i in encode(tok, TEXTS[:2]))*math.log2(len(tok))/sum(len(t.encode()) for t in TEXTS[:2])
    assert b.value == pytest.approx(want, rel=.05), 'untrained, it knows nothing'
    assert core_config(tok, 32, 1).ends == chunk_ends(tok).nonzero()[0].tolist()
    with pytest.raises(ValueError, match='train_chunks'): core_config(train_tokenizer(TEXTS, 300), 32, 1)


@pytest.mark.parametrize('kw, says', [(dict(word_rows=100), 'word_rows must be a power of two'), (dict(prefix_rows=0), 'prefix_rows must be'), (dict(piece_layers=0), 'piece_layers'), (dict(ends=[300]), '300 is no id'),
                                      (dict(width=50), 'multiple of 32'), (dict(layers=0), 'layers'), (dict(longest=2.5), 'longest')])
def test_sizes_that_cannot_be_built(kw, says):
    with pytest.raises(ValueError, match=says): CoreConfig(**SIZE | kw)
