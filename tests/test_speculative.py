"Speculative decoding: the test of equality is calibrated and can fail, the library passes it, the counts and the theorem agree with what is known"
import copy, math
import numpy as np, pytest, torch, transformers
from scipy import stats
from transformers.generation import utils
from hyperlex_nb.core import CoreConfig, HyperCore
from hyperlex_nb.model import baseline_config, build
from hyperlex_nb.speculative import acceptance, break_even, same_distribution, speculate, speedup, _FIGURES, _cells
from hyperlex_nb.tokenizer import train_tokenizer

transformers.logging.set_verbosity_error()
PROMPT, TEXTS = [3, 4, 5, 3, 4], ['Мама мыла раму, а папа читал газету.', 'В городе был дом, в доме было окно.']


def sharp(vocab, noise=0., seed=0):
    "An untrained model that is sure of things; with noise, one that is sure of somewhat different things"
    model, rng = build(baseline_config(vocab, 32, 1, 96), seed).eval(), torch.Generator().manual_seed(seed)
    head = .4*torch.randn(vocab, 32, generator=rng)
    model.lm_head.weight = torch.nn.Parameter(head + noise*torch.randn(vocab, 32, generator=rng))
    return model

@pytest.fixture(scope='module')
def pair(): return sharp(12), sharp(12, .3)

@pytest.fixture(scope='module')
def tok(): return train_tokenizer(TEXTS, 300)

@pytest.fixture(scope='module')
def words(tok): return sharp(len(tok)), sharp(len(tok), .3)

def draws(write, n=250, seed=0):
    torch.manual_seed(seed)
    return np.array([write()[0, len(PROMPT):].tolist() for _ in range(n)])

def exact(model, n, size, rng):
    "Rows drawn from the model itself, by its exact probabilities of n tokens"
    cells = _cells(model, PROMPT, n, 0.)
    full = {k: v for k, v in cells.items() if -1 not in k}
    p = np.array([*full.values()])
    return np.array([*full])[rng.choice(len(p), size, p=p/p.sum())]


# the test itself

@torch.no_grad()
def test_cells_are_products_of_the_models_own_probabilities(pair):
    model, cells = pair[0], _cells(pair[0], PROMPT, 3, 0.)
    for row in (3, 4, 5), (0, 0, 11), (7, 2, 7):
        p = model(torch.tensor([[*PROMPT, *row]])).logits[0, len(PROMPT) - 1:-1].double().softmax(-1)
        assert cells[row] == pytest.approx(p[torch.arange(3), list(row)].prod().item(), rel=1e-4)
    for least in 0., .003, .1: assert sum(_cells(model, PROMPT, 3, least).values()) == pytest.approx(1)
    few = _cells(model, PROMPT, 3, .01)
    assert len(few) < 150 and min(v for k, v in few.items() if -1 not in k) >= .01


def test_p_values_are_uniform_where_the_distribution_is_right(pair):
    rng = np.random.default_rng(0)
    p = [same_distribution(exact(pair[0], 2, 300, rng), pair[0], PROMPT, trials=400, seed=i).p for i in range(150)]
    assert stats.kstest(p, 'uniform').pvalue > .001 and np.mean(np.array(p) < .05) < .12


def test_another_model_and_broken_dependence_are_seen(pair):
    rng = np.random.default_rng(1)
    rows = exact(pair[0], 2, 600, rng)
    assert same_distribution(exact(pair[1], 2, 300, rng), pair[0], PROMPT).p < .001
    assert same_distribution(rows, pair[0], PROMPT).p > .001
    apart = np.stack([rows[:, 0], rng.permutation(rows[:, 1])], 1) # each token alone is as it should be
    assert same_distribution(apart, pair[0], PROMPT).p < .001
    hot = rows.copy()
    hot[::12] = 11 - hot[::12] # one draw of twelve is spoilt
    assert same_distribution(hot, pair[0], PROMPT).p < .01


@pytest.mark.parametrize('rows, says', [([[1, 2]], 'too few'), ([], 'shape'), ([1, 2, 3], 'shape')])
def test_rows_that_tell_nothing(pair, rows, says):
    with pytest.raises(ValueError, match=says): same_distribution(rows, pair[0], PROMPT)


# the library, right and spoilt

@pytest.mark.parametrize('draft', ['model', 'lookup'])
def test_assisted_generation_keeps_the_distribution(pair, draft):
    rows = draws(lambda: speculate(pair[0], torch.tensor([PROMPT]), 3, pair[1] if draft == 'model' else draft, 2))
    fit = same_distribution(rows, pair[0], PROMPT)
    assert fit.p > .001 and fit.cells > 12, fit


def spoilt(kind, ids, logits, n, new, **_):
    "Algorithm 1 with one mistake"
    q, p, x = logits.softmax(-1)[0], new.softmax(-1)[0], ids[0, -n:]
    keep = torch.ones(n) if kind == 'keeps all' else (p[torch.arange(n), x]/q[torch.arange(n), x]).clamp(max=1)
    kept = int((torch.rand(n) >= keep).float().cumsum(0).lt(1).sum())
    last = p[kept] if kept == n or kind == 'draws from p' else (p[kept] - q[kept]).clamp(0)
    return torch.cat([x[:kept], last.multinomial(1)])[None], torch.tensor(kept)

@pytest.mark.parametrize('kind, right', [('none', True), ('keeps all', False), ('draws from p', False)])
def test_a_spoilt_rule_is_caught(pair, monkeypatch, kind, right):
    monkeypatch.setattr(utils, '_speculative_sampling', lambda *a, **kw: spoilt(kind, *a, **kw))
    fit = same_distribution(draws(lambda: speculate(pair[0], torch.tensor([PROMPT]), 3, pair[1], 2), 350), pair[0], PROMPT)
    assert (fit.p > .01) == right, fit


@pytest.mark.parametrize('gamma', [1, 3, 8])
def test_greedy_text_is_the_same(pair, gamma):
    ids = torch.tensor([PROMPT])
    plain = speculate(pair[0], ids, 40, sample=False)
    assert plain.shape == (1, len(PROMPT) + 40)
    for draft in pair[1], 'lookup': assert torch.equal(plain, speculate(pair[0], ids, 40, draft, gamma, sample=False))


# the counts

@pytest.mark.parametrize('draft', ['model', 'lookup'])
def test_along_texts_counts_and_bits_are_as_expected(tok, words, draft):
    found = acceptance(words[0], words[1] if draft == 'model' else draft, tok, TEXTS*4, 3, 40)
    s = {k: v.sum() for k, v in found.sums.items()}
    assert max(map(abs, found.departures())) < 4 and found.departures()[2] == 0 <= s['kept'] <= s['tested'] <= s['drafted'] <= 3*s['calls'] and s['tokens'] == s['kept'] + s['calls']
    for name in _FIGURES:
        value, low, high = found.of(name)
        assert low <= value + 1e-9 and value <= high + 1e-9 and name in repr(found)


@pytest.mark.parametrize('kind', ['keeps all', 'draws from p'])
def test_along_texts_a_spoilt_rule_is_caught(tok, words, monkeypatch, kind):
    monkeypatch.setattr(utils, '_speculative_sampling', lambda *a, **kw: spoilt(kind, *a, **kw))
    kept, bits, amiss = acceptance(*words, tok, TEXTS*4, 3, 40).departures()
    assert kept > 4 if kind == 'keeps all' else amiss > 10


def test_a_draft_that_is_the_model_is_always_right(tok, words):
    found = acceptance(words[0], copy.deepcopy(words[0]), tok, TEXTS, 4, 31)
    assert found.of('rate')[0] == 1 and found.of('per_call')[0] == 5 and found.of('overlap')[0] == pytest.approx(1, abs=1e-4)
    assert (found.sums['calls'] == 6).all() and (found.sums['written'] == 31).all(), 'the last call, with one token to go, is left out'


def test_the_drafts_settings_are_put_back(pair):
    before = pair[1].generation_config.to_dict()
    speculate(pair[0], torch.tensor([PROMPT]), 4, pair[1], 3)
    with pytest.raises(ValueError): speculate(pair[0], torch.tensor([PROMPT, PROMPT]), 4, pair[1], 3)
    assert pair[1].generation_config.to_dict() == before


# the theorem

def test_the_published_table():
    "2211.17192, table 1: a draft that costs nothing"
    for rate, gamma, times in (.6, 2, 1.96), (.7, 3, 2.53), (.8, 2, 2.44), (.8, 5, 3.69), (.9, 2, 2.71), (.9, 10, 6.86):
        assert speedup(rate, gamma, 0) == pytest.approx(times, abs=.006) == pytest.approx((1 - rate**(gamma + 1))/(1 - rate), abs=.006)


def test_tokens_a_call_by_simulation():
    rng = np.random.default_rng(0)
    kept = (rng.random((200_000, 5)) < .7).cumprod(1).sum(1) + 1
    assert speedup(.7, 5) == pytest.approx(kept.mean(), abs=.02) and speedup(1, 5) == 6


@pytest.mark.parametrize('rate, gamma', [(.3, 1), (.6, 4), (.9, 9), (1., 3)])
def test_nothing_is_saved_at_the_break_even_and_something_below(rate, gamma):
    c = break_even(rate, gamma)
    assert speedup(rate, gamma, c) == pytest.approx(1) and speedup(rate, gamma, .9*c) > 1 > speedup(rate, gamma, 1.1*c)
    assert break_even(rate, 1) == pytest.approx(rate), 'corollary 3.9'


# bad input

def test_a_draft_with_another_tokenizer_is_refused(tok, words):
    with pytest.raises(ValueError, match='another tokenizer'): acceptance(*words, tok, TEXTS, draft_tok=train_tokenizer(['другой текст, other text'], 300))
    with pytest.raises(ValueError, match='must have the same tokenizer'): acceptance(words[0], sharp(280), tok, TEXTS)
    acceptance(*words, tok, TEXTS[:1], 2, 4, draft_tok=train_tokenizer(TEXTS, 300))


@pytest.mark.parametrize('kw, says', [(dict(gamma=0), 'at least 1'), (dict(length=3), 'above gamma'), (dict(length=200), 'ask for fewer'), (dict(prompts=[]), 'no prompts'), (dict(draft=None), 'must be a model'), (dict(draft='ngram'), "'lookup'")])
def test_bad_requests_of_acceptance(tok, words, kw, says):
    with pytest.raises(ValueError, match=says): acceptance(**dict(model=words[0], draft=words[1], tok=tok, prompts=TEXTS) | kw)


def test_a_core_is_refused(pair):
    core = HyperCore.build(CoreConfig(12, 32, 1, 64, piece_width=32, word_rows=64, prefix_rows=64, ends=[4, 7]))
    for model, draft in (core, pair[1]), (pair[0], core):
        with pytest.raises(ValueError, match='HyperCore'): speculate(model, torch.tensor([PROMPT]), 4, draft)


@pytest.mark.parametrize('rate, gamma, cost', [(1.1, 2, .1), (-.1, 2, .1), (math.nan, 2, .1), (.5, 0, .1), (.5, 2, -1.), (.5, 2, math.nan)])
def test_bad_numbers(rate, gamma, cost):
    with pytest.raises(ValueError): speedup(rate, gamma, cost)
