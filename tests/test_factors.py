"The dictionary says what pymorphy3 says, the model looks words up and stays causal, the price is counted."
import numpy as np, pytest, torch
from dataclasses import dataclass, field
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from hyperlex_nb.chunks import train_chunks
from hyperlex_nb.core import HyperCore, _cut
from hyperlex_nb.factors import FactorCore, _factors, dictionary
from hyperlex_nb.forms import _morph
from hyperlex_nb.model import load
from hyperlex_nb.tokenizer import encode

TEXTS = ['Кошки едят рыбу, а кот ест мясо.', 'В городе живут коты; о городах пишут книги.', 'Мы не были в доме 12 раз!']*30


@dataclass
class Sizes: width: int = 32; layers: int = 1; context: int = 64; options: dict = field(default_factory=lambda: dict(piece_width=32, piece_hidden=64, word_rows=64, prefix_rows=64))


@pytest.fixture(scope='module')
def made():
    tok = train_chunks(iter(TEXTS), 650)
    row = np.concatenate([np.array([*i, tok.eos_token_id]) for i in encode(tok, TEXTS)])
    config, build, price = _factors(Sizes(), tok, row)
    return tok, row, build(config, 0).eval(), price


def hashes(tok, model, text):
    ids = torch.tensor([next(encode(tok, [text]))])
    place, last, h = _cut(ids, torch.ones_like(ids, dtype=torch.bool), model.model.ends, 16)
    return h[last]


def test_it_says_what_the_analyser_says(made):
    tok, row, model, _ = made
    of = {}
    for text in TEXTS[:3]:
        for word, lemma, form in zip(text.split(), *(x.tolist() for x in model.model.known(hashes(tok, model, ' ' + text)))):
            a = _morph().parse(word.strip('.,;!').lower())[0]
            if word[:-1].isalpha() and lemma: assert of.setdefault(('l', lemma), a.normal_form) == a.normal_form and of.setdefault(('f', form), str(a.tag)) == str(a.tag)
    assert len(of) > 15
    a, b = (x.tolist() for x in model.model.known(hashes(tok, model, ' коты; кот')))
    assert a[0] == a[1] != 0 and b[0] != b[1], 'one lemma, two forms'
    assert not model.model.known(hashes(tok, model, ' абракадабрище'))[0].any()


def test_the_dictionary_does_not_depend_on_how_the_row_is_cut_and_keeps_the_frequent(made):
    tok, row, *_ = made
    keys, lemmas, forms = dictionary(tok, row)
    assert (np.diff(keys) > 0).all() and len(keys) == len(lemmas) == len(forms)
    few = dictionary(tok, row, limit=5)
    assert set(few[0]) <= set(keys) and len(few[0]) == 5
    assert all(len(c) == 0 for c in dictionary(tok, row[:0]))


@torch.no_grad()
def test_causal_cached_and_saved(made, tmp_path):
    tok, row, model, _ = made
    ids = torch.from_numpy(row[:50].astype(np.int64))[None]
    whole = model(ids).logits
    for n in 3, 11, 49: assert torch.allclose(model(ids[:, :n]).logits, whole[:, :n], atol=1e-5)
    a, b = (model.generate(ids[:, :20], max_new_tokens=20, do_sample=False, use_cache=u, pad_token_id=1).tolist() for u in (True, False))
    assert a == b
    model.save_pretrained(tmp_path)
    again = load(tmp_path).eval()
    assert isinstance(again, FactorCore) and torch.equal(again(ids).logits, whole)


def test_the_word_s_vectors_matter_and_the_forms_are_learned(made):
    tok, row, model, _ = made
    x = torch.from_numpy(np.stack([row[i:i + 61] for i in (0, 40, 90, 200)]).astype(np.int64))
    m = HyperCore.build.__func__(FactorCore, model.config, 1)
    for name in 'hashes', 'lemma_of', 'form_of': getattr(m.model, name).copy_(getattr(model.model, name))
    opt, start = torch.optim.Adam(m.parameters(), 1e-2), None
    for _ in range(25):
        loss = m.extra_loss(m.model(x[:, :-1]), x); start = start or loss.item()
        loss.backward(); opt.step(); opt.zero_grad()
    assert loss.item() < .3*start and m.model.embed_form.weight.grad is None


def test_flops_equal_the_counter_of_torch(made):
    tok, row, model, price = made
    x = torch.from_numpy(row[:61].astype(np.int64))[None]
    model.model.body.config._attn_implementation = 'eager'
    with FlopCounterMode(display=False) as counter:
        out = model.model(x[:, :-1])
        (nn.functional.cross_entropy(model.lm_head(out.last_hidden_state).flatten(0, 1), x[:, 1:].flatten()) + model.extra_loss(out, x)).backward()
    model.zero_grad()
    assert price.params == model.num_parameters() and counter.get_total_flops() == pytest.approx(price.train*60, rel=.1) # this row's chunks are not the mean's
