"Inside: the lens is the model stopped early, attention and routers are what the modules compute, the contest of word and context counts right, the page is safe and works in a browser"
import copy, dataclasses, itertools, json, math, os, re, shutil, socket, subprocess, time, urllib.error, urllib.request
from contextlib import nullcontext
from pathlib import Path
import matplotlib.pyplot as plt, numpy as np, pytest, torch
from transformers import GPT2Config, GPT2LMHeadModel, GraniteConfig, GraniteForCausalLM, MixtralConfig, MixtralForCausalLM, OlmoeConfig, OlmoeForCausalLM
from hyperlex_nb import inside
from hyperlex_nb.chunks import train_chunks
from hyperlex_nb.core import CoreConfig, HyperCore, core_config
from hyperlex_nb.evaluate import surprise
from hyperlex_nb.inside import composed, entropy_by_position, page, trace
from hyperlex_nb.model import baseline_config, build
from hyperlex_nb.tokenizer import train_tokenizer

TEXTS = ['Мама мыла раму, а потом (вечером) читала «Войну и мир».', 'В 1915 году вышла работа о бессознательном; её перевели.\n\nДа?', 'Длинное, красное и сонное; важное, мутное, земное, ночное: оно бессознательное.', 'бледное верное главное дневное южное юное']*20
TEXT = 'Старый дом стоял у реки.\nВ нём (в 1915 году) жил человек: думал, 👍 читал.'
HOSTILE = '</script><script>window.hacked=1</script><!-- <img src=x onerror=alert(1)> & \u202eкод\u202c\u2028 👩‍👩‍👧 ש\0 \t$x$ \ufeff'
KINDS = 'llama', 'core', 'mixtral', 'olmoe'
SIZES = dict(vocab_size=420, hidden_size=64, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256, bos_token_id=0, eos_token_id=0, pad_token_id=1)


@pytest.fixture(scope='module')
def toks():
    plain, chunks = train_tokenizer(TEXTS, 305), train_chunks(iter(TEXTS), 600)
    return dict(llama=plain, core=chunks, mixtral=plain, olmoe=plain)


@pytest.fixture(scope='module')
def models(toks):
    torch.manual_seed(0)
    made = dict(llama=build(baseline_config(420, 64, 3, 256)), core=HyperCore.build(core_config(toks['core'], 64, 3, context=256, piece_width=32, word_rows=64, prefix_rows=64)),
                mixtral=MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2)), olmoe=OlmoeForCausalLM(OlmoeConfig(**SIZES, num_experts=8, num_experts_per_tok=3)))
    for m in made.values():
        for p in m.parameters():
            p.data.mul_(8 if p.ndim > 1 else .5 + torch.rand_like(p)) # far from uniform; a norm taken twice is seen
    return {k: m.eval() for k, m in made.items()}


def ids_of(tok, text): return torch.tensor([[tok.eos_token_id, *tok(text, add_special_tokens=False).input_ids, tok.eos_token_id]])


# --- the lens ---------------------------------------------------------------------------------

@torch.no_grad()
@pytest.mark.parametrize('kind', KINDS)
def test_each_row_of_the_lens_is_the_model_with_fewer_layers(models, toks, kind):
    m, tok = models[kind], toks[kind]
    t, row = trace(m, tok, TEXT, top=7), ids_of(tok, TEXT)
    assert len(t.entropy) == 4 and t.ids.tolist() == row[0, 1:].tolist() and ''.join(t.pieces) == TEXT and len(t.pieces) == len(t.ids)
    for layers in range(4):
        cut = copy.deepcopy(m)
        stack = cut.model.body if kind == 'core' else cut.model
        stack.layers, stack.config.num_hidden_layers = stack.layers[:layers], layers
        logp = cut(row[:, :-1]).logits[0].log_softmax(-1)
        assert np.allclose(t.entropy[layers], -(logp.exp()*logp).sum(-1)/math.log(2), atol=1e-3)
        assert np.allclose(t.surprise[layers], -logp.gather(1, row[0, 1:, None])[:, 0]/math.log(2), atol=1e-3)
        assert np.allclose(t.chance[layers], logp.exp().topk(7).values, atol=1e-4) and np.allclose(np.take_along_axis(logp.exp().numpy(), t.top[layers], 1), t.chance[layers], atol=1e-4)
    assert np.ptp(t.entropy, 0).max() > .1, 'the layers differ, or the test says nothing'


@pytest.mark.parametrize('kind', KINDS)
def test_surprise_is_that_of_the_book(models, toks, kind, monkeypatch):
    mine = trace(models[kind], toks[kind], TEXT).surprise[-1]
    monkeypatch.setattr(torch, 'autocast', lambda *a, **kw: nullcontext()) # 32 bits, as in trace
    assert np.allclose(mine, surprise(models[kind], toks[kind], TEXT), atol=1e-3)


@pytest.mark.parametrize('kind', KINDS)
def test_a_uniform_model_has_log_v_bits_everywhere(models, toks, kind):
    flat = copy.deepcopy(models[kind])
    flat.lm_head.weight.data.zero_()
    t = trace(flat, toks[kind], TEXT)
    v = math.log2(flat.config.vocab_size)
    assert np.allclose(t.entropy, v) and np.allclose(t.surprise, v)


def test_a_vocabulary_is_taken_some_rows_at_a_time(models, toks):
    state, target = torch.randn(50, 64), torch.arange(50)
    with torch.no_grad(): a, b = (inside._facts(models['llama'], state, target, 3, room=r) for r in (420*7, 2**24))
    assert all(np.allclose(x, y, atol=1e-5) for x, y in zip(a, b))


# --- attention and routers --------------------------------------------------------------------

@pytest.mark.parametrize('kind', KINDS)
def test_attention_is_causal_and_nothing_of_the_model_is_changed(models, toks, kind):
    m, tok = models[kind], toks[kind]
    stack = m.model.body if kind == 'core' else m.model
    m.train()
    before, hooks = stack.config._attn_implementation, len(stack._forward_hooks) + len(stack._forward_pre_hooks)
    t, short = trace(m, tok, TEXT), trace(m, tok, TEXT[:TEXT.index(':')])
    assert stack.config._attn_implementation == before != 'eager' and m.training and 'forward' not in stack.__dict__ and len(stack._forward_hooks) + len(stack._forward_pre_hooks) == hooks
    m.eval()
    assert t.attention.shape[:2] == (3, stack.config.num_attention_heads) and np.allclose(t.attention.sum(-1), 1, atol=1e-5)
    assert not t.attention[..., ~np.tri(t.attention.shape[-1], dtype=bool)].any()
    n, k = short.attention.shape[-1], len(short.ids) - 2
    n -= kind == 'core' # its last word goes on in the longer text
    assert np.allclose(t.attention[..., :n, :n], short.attention[..., :n, :n], atol=1e-5) and np.allclose(t.entropy[:, :k], short.entropy[:, :k], atol=1e-3)
    assert trace(m, tok, TEXT, attention=False).attention is None


def test_the_model_is_left_whole_by_an_error(models, toks, monkeypatch):
    m = models['llama'].train()
    monkeypatch.setattr(inside, '_facts', lambda *a: 1/0)
    with pytest.raises(ZeroDivisionError): trace(m, toks['llama'], TEXT)
    assert m.training and m.model.config._attn_implementation == 'sdpa' and 'forward' not in m.model.__dict__ and not m.model._forward_pre_hooks
    m.eval()


def by_hand(t, ends):
    "(said, read) of a HyperCore, one piece after another"
    step, said, read = 0, [], [] # step 0 read the beginning
    for i in t.ids:
        said.append(step); read.append(step + 1)
        step += i in ends
    whole = said[-1] # steps that were taken; the end of the text is read by none
    return said, [r if r <= whole else -1 for r in read[:-1]] + [-1]

def test_steps_by_hand(models, toks):
    t = trace(models['llama'], toks['llama'], 'Мама мыла')
    assert t.said.tolist() == list(range(len(t.ids))) and t.read.tolist() == [*range(1, len(t.ids)), -1]
    t = trace(models['core'], toks['core'], TEXT)
    assert (t.said.tolist(), t.read.tolist()) == by_hand(t, models['core'].model.ends.nonzero().flatten().tolist()) and t.attention.shape[-1] == t.said[-1] + 1
    assert [''.join(p for p, r in zip(t.pieces, t.read) if r == s) for s in range(1, 4)] == ['Старый', ' дом', ' стоял']
    ids = ids_of(toks['llama'], 'книга')[0].tolist()
    ends = [0, ids[2]]
    t = trace(HyperCore.build(CoreConfig(vocab_size=305, width=32, layers=1, context=64, piece_width=32, word_rows=64, prefix_rows=64, ends=ends)), toks['llama'], 'книга')
    assert (t.said.tolist(), t.read.tolist()) == by_hand(t, ends) and (t.read == -1).sum() > 1 and t.plot_attention(1), 'a word that is not ended is read by no step'
    plt.close('all')


@pytest.mark.parametrize('kind, gate', [('mixtral', 'gate'), ('olmoe', 'gate')])
def test_routers_are_what_the_gates_say(models, toks, kind, gate):
    m, said = models[kind], []
    gates = [mod for name, mod in m.named_modules() if name.endswith(f'.{gate}')]
    hooks = [g.register_forward_hook(lambda mod, args, out: said.append(out)) for g in gates]
    t = trace(m, toks[kind], TEXT)
    for h in hooks: h.remove()
    logits, _, chosen = zip(*said[-3:])
    assert t.router.shape == (3, len(t.ids), m.config.num_experts if kind == 'olmoe' else 4) and np.allclose(t.router.sum(-1), 1, atol=1e-5)
    assert np.allclose(t.router, torch.stack(logits).softmax(-1).detach(), atol=1e-5)
    share, bits = t.load()
    count = torch.stack([c.flatten().bincount(minlength=t.router.shape[-1])/c.numel() for c in chosen])
    assert t.active == chosen[0].shape[-1] and np.allclose(share, count) and (bits > 0).all() and (bits < math.log2(t.router.shape[-1])).all()
    data = inside._model('m', t, True)
    assert [[sorted(e for e, _ in s) for s in r] for r in data['experts']] == [c.sort().values.tolist() for c in chosen]


def test_a_model_without_experts_has_no_load(models, toks):
    t = trace(models['llama'], toks['llama'], TEXT, attention=False)
    with pytest.raises(ValueError, match='no routers'): t.load()
    with pytest.raises(ValueError, match='attention=True'): t.plot_attention(1)
    with pytest.raises(ValueError, match='between 1 and 3'): trace(models['llama'], toks['llama'], TEXT).plot_attention(4)


# --- input that cannot be looked into ---------------------------------------------------------

def test_refusals(models, toks):
    m, tok = models['llama'], toks['llama']
    with pytest.raises(ValueError, match='reads 255 .* cut it'): trace(m, tok, 'слово '*300)
    with pytest.raises(ValueError, match='empty text'): trace(m, tok, '')
    with pytest.raises(ValueError, match='lone surrogate'): trace(m, tok, 'а\ud800')
    with pytest.raises(ValueError, match='GPT2LMHeadModel has no'): trace(GPT2LMHeadModel(GPT2Config(vocab_size=420, n_embd=32, n_layer=1, n_head=1, n_positions=64)), tok, TEXT)
    scaled = GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=8., initializer_range=.3)).eval()
    for look in lambda: trace(scaled, tok, TEXT), lambda: entropy_by_position(scaled, tok, [TEXT]*4, length=15, bins=3):
        with pytest.raises(ValueError, match='more than its head'): look()
    broken = copy.deepcopy(m)
    broken.model.layers[1].mlp.down_proj.weight.data[0, 0] = float('nan')
    with pytest.raises(ValueError, match='no finite bits|more than its head'): trace(broken, tok, TEXT)
    wide = build(baseline_config(420, 32, 4, 2**14))
    with pytest.raises(ValueError, match='attention=False'): trace(wide, tok, 'слово '*1500)


def test_the_longest_text_that_fits(models, toks):
    m, tok = models['llama'], toks['llama']
    n = len(ids_of(tok, ' да'*10)[0]) - 2
    text = ' да'*(255*10//n)
    assert len(trace(m, tok, text, attention=False).ids) <= 256
    for text in 'а', '\0', ' ', '👍', '<|endoftext|>': assert ''.join(trace(m, tok, text).pieces) == text


# --- entropy along a text ---------------------------------------------------------------------

@pytest.mark.parametrize('kind', ['llama', 'core'])
def test_stretches_are_means_of_traces(models, toks, kind):
    m, tok = models[kind], toks[kind]
    texts = [' '.join(w[i:] + w[:i]) for w in [(TEXT + ' ' + TEXTS[1]).split()] for i in (0, 3, 7, 11, 13)]
    got = entropy_by_position(m, tok, texts + ['Кратко.'], length=32, bins=4, batch=2)
    rows = [trace(m, tok, t) for t in texts]
    want = np.array([t.entropy[-1][:32].reshape(4, 8).mean(1) for t in rows])
    assert got['texts'] == 5 and np.allclose(got['entropy'][:, 0], want.mean(0), atol=1e-3) and (got['entropy'][:, 1] < want.mean(0)).all() and (got['entropy'][:, 2] > want.mean(0)).all()
    assert got['change'][0] == pytest.approx((want[:, 3] - want[:, 0]).mean(), abs=1e-3)
    assert np.allclose(got['surprise'][:, 0], np.mean([t.surprise[-1][:32].reshape(4, 8).mean(1) for t in rows], 0), atol=1e-3)
    assert not got['far'][:2].any()
    with torch.no_grad():
        ids = torch.stack([ids_of(tok, t)[0, :33] for t in texts])
        near = torch.nn.functional.cross_entropy(m(ids[:, 8:24]).logits[:, 8:].flatten(0, 1), ids[:, 17:25].flatten())/math.log(2)
    assert got['far'][2, 0] == pytest.approx(near.item() - got['surprise'][2, 0], abs=1e-3) and got['far'][2, 0] != 0


@pytest.mark.parametrize('heat, held', [(1., True), (.8, False)])
def test_on_its_own_text_surprise_is_entropy(models, toks, heat, held):
    "True of every model, if its text is drawn from its distribution and from no other."
    m, tok = models['llama'], toks['llama']
    torch.manual_seed(0)
    rows = m.generate(torch.zeros(40, 1, dtype=torch.long), max_new_tokens=64, do_sample=True, top_k=0, temperature=heat, eos_token_id=-1, pad_token_id=1)[:, 1:].tolist()
    value, low, high = entropy_by_position(m, tok, rows, length=64)['excess']
    assert (low < 0 < high) == held and (held or value < 0)


def test_courses_refused(models, toks):
    m, tok = models['llama'], toks['llama']
    for kw in dict(length=512), dict(length=30), dict(length=32, bins=2):
        with pytest.raises(ValueError, match='multiple of bins'): entropy_by_position(m, tok, [TEXT]*5, **kw)
    with pytest.raises(ValueError, match='2 texts have 32 pieces'): entropy_by_position(m, tok, [TEXT]*2 + ['а'], length=32)


# --- where a word is put together -------------------------------------------------------------

CONTEXTS = [f'{a} бессознательное {b}.' for a, b in zip('Он видел|Вот|Мы хотим понять|Утром её|Никто не знает, что|В старом доме жило'.split('|'), itertools.repeat('было'))]
OTHERS = 'длинное земное красное сонное важное мутное ночное бледное верное главное дневное'.split()

def still(model):
    "No attention: a state is a matter of the pieces that its own step reads."
    model = copy.deepcopy(model)
    for name, p in model.named_parameters():
        if 'o_proj' in name: p.data.zero_()
    return model


def test_without_attention_a_piece_cannot_know_its_word(models, toks):
    c = composed(still(models['llama']), toks['llama'], 'бессознательное', CONTEXTS, OTHERS)
    assert (c.share == .5).all() and c.layer == (4, 4, 4) and 'not composed' in repr(c) and len(c.pieces) > 1
    c = composed(still(models['core']), toks['core'], 'бессознательное', CONTEXTS, OTHERS)
    assert np.allclose(c.share, 1) and c.layer == (0, 0, 0) and (c.luck < 1).all(), 'a HyperCore reads the word at once'


@pytest.mark.parametrize('layer', [1, 2, 3])
def test_nothing_is_composed_below_the_first_attention(models, toks, layer):
    m = copy.deepcopy(models['llama'])
    for b in m.model.layers[:layer - 1]: b.self_attn.o_proj.weight.data.zero_()
    c = composed(m, toks['llama'], 'бессознательное', CONTEXTS, OTHERS)
    assert (c.share[:layer] == .5).all() and c.share[layer, 0] != .5
    assert c.contexts == 6 and (c.share[:, 1] <= c.share[:, 0]).all() and (c.share[:, 0] <= c.share[:, 2]).all() and np.isfinite(c.luck).all()


def test_a_model_that_copies_the_word_and_one_that_copies_the_context(models, toks, monkeypatch):
    rng, kinds = np.random.default_rng(0), {}
    def states(model, rows): # (layers + 1, contexts x words, width): layer 1 holds the context, layer 2 the word, layer 3 both alike
        n, m = len(CONTEXTS), len(rows)//len(CONTEXTS)
        c, w = np.repeat(rng.normal(size=(n, 1, 20)), m, 1), np.repeat(rng.normal(size=(1, m, 20)), n, 0)
        return np.stack([np.ones((n, m, 40)), *(np.concatenate([a*c, b*w], -1) for a, b in ((1, .01), (.01, 1), (1, 1)))]).reshape(4, n*m, 40)
    monkeypatch.setattr(inside, '_last_states', states)
    c = composed(models['llama'], toks['llama'], 'бессознательное', CONTEXTS, OTHERS)
    assert (c.share[0] == .5).all() and (c.share[1] == 0).all() and np.allclose(c.share[2], 1) and .2 < c.share[3, 0] < .8 and c.luck[1] < .1 and c.luck[2] < .9
    assert c.layer[0] == (2 if c.share[3, 0] > max(.5, c.luck[3]) else 4)


def test_the_contest_is_counted_right():
    rng = np.random.default_rng(0)
    cos = inside._cosines(rng.normal(size=(5, 4, 8)).astype(np.float32))
    word = np.array([0, 2, 1, 3, 0])
    won, want = inside._wins(cos, word), np.full((5, 5, 3), np.nan)
    for i, j in itertools.permutations(range(5), 2):
        for at, k in enumerate(x for x in range(4) if x != word[i]): want[i, j, at] = (cos[i, word[i], j, word[j]] > cos[i, word[i], i, k]) + .5*(cos[i, word[i], j, word[j]] == cos[i, word[i], i, k])
    assert np.array_equal(won, want, equal_nan=True) and np.allclose(cos[range(5), 1, range(5), 1], 1, atol=1e-4)
    won = np.where(np.eye(12, dtype=bool)[:, :, None], np.nan, rng.random((12, 12, 9)) < rng.random((12, 1, 1))).astype(float)
    boot, plain = inside._drawn(won, 2000, rng), []
    for _ in range(2000):
        a, b = rng.integers(0, 12, 12), rng.integers(0, 9, 9)
        plain.append(np.nanmean(won[a][:, a][..., b]))
    assert boot.mean() == pytest.approx(np.mean(plain), abs=.01) and boot.std() == pytest.approx(np.std(plain), rel=.1)


@pytest.mark.parametrize('kw, says', [(dict(word='дом'), '0 different contexts'), (dict(contexts=CONTEXTS[:3]), '3 different contexts'), (dict(others=['дом', 'вода', 'длинное', 'бессознательное', 'ночное', 'ночное']), '[12] of the other words'),
                                      (dict(share=0), 'share must lie'), (dict(share=99), 'share must lie'), (dict(contexts=['слово '*250 + t for t in CONTEXTS]), 'shorten it'), (dict(contexts=['а\ud800'] + CONTEXTS), 'lone surrogate')])
def test_contests_refused(models, toks, kw, says):
    with pytest.raises(ValueError, match=says): composed(models['llama'], toks['llama'], **(dict(word='бессознательное', contexts=CONTEXTS, others=OTHERS) | kw))


def test_a_word_of_one_piece_has_nothing_to_compose(models, toks):
    contexts = [f'{a} и б' for a in 'Он Она Мы Вы Они'.split()]
    with pytest.raises(ValueError, match='nothing to put together'): composed(models['llama'], toks['llama'], 'и', contexts, OTHERS)


# --- figures ----------------------------------------------------------------------------------

@pytest.mark.filterwarnings('ignore:Glyph')
def test_figures_hold_the_numbers(models, toks):
    text = TEXT + ' $x^2$ \\frac{'
    t = trace(models['mixtral'], toks['mixtral'], text)
    ax = t.plot_bits(last=1000)
    assert np.allclose([b.get_height() for b in ax.patches], t.surprise[-1]) and np.allclose(ax.lines[0].get_ydata(), t.entropy[-1])
    ax = t.plot_lens(first=2, last=9)
    assert np.allclose(ax.images[0].get_array(), t.entropy[:, 2:9]) and len(ax.texts) == 4*7
    ax = t.plot_attention(2, head=1)
    assert np.allclose(ax.images[0].get_array()**2, t.attention[1, 1], atol=1e-6) and len(ax.get_xticklabels()) == t.attention.shape[-1]
    left, right = t.plot_experts(last=1000)
    assert np.array_equal(left.images[0].get_array(), t.router[:, t.read[:-1]].argmax(-1)) and np.allclose(right.lines[0].get_ydata(), t.load()[0][0])
    for f in plt.get_fignums(): plt.figure(f).canvas.draw()
    plt.close('all')


# --- the page ---------------------------------------------------------------------------------

def data_of(path):
    source = path.read_text(encoding='utf-8')
    inner = re.search(r'<script type="application/json" id=data>(.*?)</script>', source, re.S)[1]
    assert not set(inner) & set('<>&\u2028\u2029') and source.count('<script') == 2 == source.count('</script')
    return source, json.loads(inner)


@pytest.mark.parametrize('kind', KINDS)
def test_a_page_holds_the_trace_and_nothing_from_outside(models, toks, kind, tmp_path):
    t = trace(models[kind], toks[kind], HOSTILE)
    path = page(t, tmp_path/'a'/'page.html', title='</title><script>1</script>\u202e')
    source, (d,) = data_of(path)
    assert not re.search(r'https?:|src=|href=|@import|url\(', source.replace(HOSTILE, '')) and "default-src 'none'" in source and path.parent.joinpath('page.html') == path
    assert not set(source) & set('\u202e\u202c\0\ufeff') and '👩' in source and '<title>&lt;/title&gt;' in source
    assert np.allclose(d['entropy'], t.entropy, atol=.006) and np.allclose(d['surprise'], t.surprise, atol=.006) and len(d['pieces']) == len(t.ids)
    assert [d['names'][k] for k in d['truth']] == [t.names[int(i)] for i in t.ids] and d['said'] == t.said.tolist()
    n = t.attention.shape[-1]
    packed = np.frombuffer(__import__('base64').b64decode(d['attention']), np.uint8).reshape(3, t.attention.shape[1] + 1, -1)/255
    back = np.zeros((3, t.attention.shape[1] + 1, n, n)); back[..., *np.tril_indices(n)] = packed
    assert d['n'] == n and np.allclose(back[:, 0], t.attention.mean(1), atol=.002) and np.allclose(back[:, 1:], t.attention, atol=.002)
    assert [p.name for p in path.parent.iterdir()] == ['page.html']


def test_pages_refused(models, toks, tmp_path):
    t = trace(models['llama'], toks['llama'], TEXT)
    with pytest.raises(ValueError, match='no traces'): page({}, tmp_path/'a.html')
    with pytest.raises(IsADirectoryError, match='is a folder'): page(t, tmp_path)
    with pytest.raises(ValueError, match='a page shows 9 beside'): page(t, tmp_path/'a.html', most=10)
    for kw in dict(traces=t, title='\ud800'), dict(traces={'\udfff': t}):
        with pytest.raises(ValueError, match='lone surrogate'): page(path=tmp_path/'a.html', **kw)
    assert not list(tmp_path.iterdir())


def test_a_page_stays_small(models, toks, tmp_path):
    t = trace(models['llama'], toks['llama'], 'слово и дело '*12)
    def deep(layers, heads):
        a = np.tril(np.ones((layers, heads, 300, 300), np.float32))
        return dataclasses.replace(t, attention=a/a.sum(-1, keepdims=True), said=np.arange(len(t.ids)) + 299 - len(t.ids))
    path = page(deep(6, 6), tmp_path/'a.html')
    assert path.stat().st_size < 2e6 and data_of(path)[1][0]['heads'] == ['mean of the heads']
    with pytest.raises(ValueError, match='attention=False'): page(deep(36, 1), tmp_path/'b.html')
    assert page(trace(models['llama'], toks['llama'], TEXT, attention=False), tmp_path/'c.html').stat().st_size < 1e5


class Browser:
    "A headless Chromium, driven over WebDriver by chromedriver"
    def __init__(self, chrome, driver):
        with socket.socket() as s: s.bind(('127.0.0.1', 0)); self.url = f'http://127.0.0.1:{s.getsockname()[1]}'
        self.child = subprocess.Popen([driver, f"--port={self.url.rsplit(':')[-1]}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(150):
            try: self.ask('GET', '/status'); break
            except OSError: time.sleep(.1)
        options = dict(binary=chrome, args=['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--window-size=1200,900'])
        self.url += '/session/' + self.ask('POST', '/session', capabilities=dict(alwaysMatch={'browserName': 'chrome', 'goog:chromeOptions': options, 'goog:loggingPrefs': dict(browser='ALL', performance='ALL')}))['sessionId']
    def ask(self, method, path, **body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if method == 'POST' else None, {'Content-Type': 'application/json'}, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as r: return json.load(r)['value']
    def open(self, path): self.ask('POST', '/url', url=path.as_uri())
    def js(self, code): return self.ask('POST', '/execute/sync', script='return ' + code, args=[])
    def find(self, css): return '/element/' + next(iter(self.ask('POST', '/element', using='css selector', value=css).values()))
    def click(self, css): self.ask('POST', self.find(css) + '/click')
    def keys(self, css, text): self.ask('POST', self.find(css) + '/value', text=text)
    def hover(self, css):
        at = {'element-6066-11e4-a52e-4f735466cecf': self.find(css).removeprefix('/element/')}
        self.ask('POST', '/actions', actions=[dict(type='pointer', id='mouse', parameters=dict(pointerType='mouse'), actions=[dict(type='pointerMove', duration=0, x=0, y=0, origin=at)])])
    def text(self, css): return self.js(f'document.querySelector({css!r}).innerText')
    def requests(self): return [m['params']['request']['url'] for e in self.ask('POST', '/se/log', type='performance') if (m := json.loads(e['message'])['message'])['method'] == 'Network.requestWillBeSent']
    def complaints(self): return [e['message'] for e in self.ask('POST', '/se/log', type='browser')]
    def close(self):
        try: self.ask('DELETE', '')
        except (OSError, urllib.error.HTTPError): pass
        self.child.terminate(); self.child.wait()


@pytest.fixture(scope='module')
def browser():
    chrome = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'))), None)
    driver = shutil.which('chromedriver') or shutil.which('chromedriver', path=os.environ.get('CHROMEWEBDRIVER', ''))
    if not chrome or not driver: pytest.skip('no chromium with chromedriver on this machine')
    b = Browser.__new__(Browser)
    try: b.__init__(chrome, driver)
    except (OSError, urllib.error.HTTPError) as e:
        if hasattr(b, 'child'): b.child.kill(); b.child.wait()
        pytest.skip(f'chromium does not start here: {e}')
    yield b
    b.close()


def test_a_reader_clicks_types_and_slides(models, toks, tmp_path, browser):
    traces = {k: trace(models[k], toks[k], TEXT) for k in KINDS}
    path = page(traces, tmp_path/'page.html', title='Дом & река')
    browser.open(path)
    t = traces['llama']
    assert browser.js('document.title') == 'Дом & река' and browser.js("document.querySelectorAll('#text span').length") == len(t.ids)
    assert browser.js("document.getElementById('text').textContent.replace(/[↵∎·\\n]/g, '')") == TEXT.replace('\n', '')
    browser.click('#p7')
    panel = browser.text('#panel')
    assert 'piece 8 of' in panel and f'surprise {t.surprise[-1, 7]:.2f} bits, entropy before it {t.entropy[-1, 7]:.2f} bits' in panel
    rows = browser.js("[...document.querySelectorAll('#panel tbody tr')].map(r => [...r.cells].map(c => c.textContent))")
    assert [r[0] for r in rows] == ['3', '2', '1', 'input'] and [r[1] for r in rows] == [f'{e:.2f}' for e in t.entropy[::-1, 7]] and [r[2] for r in rows] == [f'{s:.2f}' for s in t.surprise[::-1, 7]]
    assert all(rows[3 - l][3].startswith(t.names[int(t.top[l, 7, 0])]) for l in range(4))
    weights = sorted(t.attention[2, :, 7].mean(0)[:8], reverse=True)
    assert browser.js("[...document.querySelectorAll('#panel .weight span')].map(s => parseInt(s.textContent))") == pytest.approx([100*w for w in weights], abs=1)
    order = np.argsort(-t.attention[2, :, 7].mean(0)[:8])
    assert browser.js("[...document.querySelectorAll('#panel .weight bdi')].map(b => b.textContent)")[:2] == [(t.pieces[c - 1].strip() or '·') if c else 'begin' for c in order[:2]]
    bars, mean = [float(a) for a in browser.js("[...document.querySelectorAll('#text span')].map(s => s.style.getPropertyValue('--a'))")], t.attention[2, :, 7].mean(0)
    assert bars == pytest.approx([*(100*mean[1:8]/mean.max()), *[0]*(len(bars) - 7)], abs=3)
    browser.keys('#text', '\ue014\ue014') # right, right
    assert 'piece 10 of' in browser.text('#panel') and browser.js("document.querySelector('#text [aria-selected=true]').id") == 'p9' == browser.js("document.getElementById('text').getAttribute('aria-activedescendant')")
    browser.keys('#text', '\ue015\ue015\ue015\ue015') # down to the input
    assert browser.text('#layername') == 'input' and 'choose a layer' in browser.text('#panel') and browser.text('#panel tr.on').startswith('input')
    heat = lambda: [float(h) for h in browser.js("[...document.querySelectorAll('#text span')].map(s => s.style.getPropertyValue('--h'))")]
    assert heat() == pytest.approx([min(s/12, 1)*75 for s in t.surprise[0]], abs=.1)
    browser.keys('#layer', '\ue014') # the slider itself
    assert browser.text('#layername') == '1 of 3' and heat() == pytest.approx([min(s/12, 1)*75 for s in t.surprise[1]], abs=.1)
    browser.click('#panel tbody tr')
    assert browser.text('#layername') == '3 of 3'
    browser.keys('#text', '\ue010') # end
    assert 'the end of the text' in browser.text('#panel')
    browser.hover('#p2')
    assert 'piece 3 of' in browser.text('#panel')
    browser.hover('h1')
    assert 'the end of the text' in browser.text('#panel'), 'what was chosen comes back'
    browser.js("(document.getElementById('model').value = 2, document.getElementById('model').dispatchEvent(new Event('change')))")
    t = traces['mixtral']
    browser.click('#p4')
    first = ', '.join(f'{e} ({t.router[0, t.read[4]][e]*100:.0f}%)' for e in np.argsort(-t.router[0, t.read[4]])[:2])
    assert f'router 1: {first}' in browser.text('#panel')
    for model in 1, 0: # the last look is at a model without experts
        browser.js(f"(document.getElementById('model').value = {model}, document.getElementById('model').dispatchEvent(new Event('change')))")
        browser.click('#p9')
        t = traces[KINDS[model]]
        assert 'router' not in browser.text('#panel') and f'surprise {t.surprise[-1, 9]:.2f} bits' in browser.text('#panel') and browser.js("document.querySelectorAll('#panel .weight').length") == min(8, t.said[9] + 1)
    assert browser.complaints() == [] and browser.requests() == [path.as_uri()]


def test_hostile_text_stays_text_in_a_browser(models, toks, tmp_path, browser):
    browser.requests(), browser.complaints()
    path = page({'<b>m</b>': trace(models['llama'], toks['llama'], HOSTILE), 'n': trace(models['core'], toks['core'], HOSTILE)}, tmp_path/'page.html', title='<img src=x>')
    browser.open(path)
    shown = browser.js("document.getElementById('text').textContent")
    assert shown.startswith('</script><script>window.hacked=1</script><!-- <img src=x onerror=alert(1)> & ⟨202E⟩') and browser.js('typeof window.hacked') == 'undefined'
    assert browser.js("document.querySelectorAll('img').length + document.querySelectorAll('b').length") == 0 and browser.js("document.querySelectorAll('script').length") == 2 and browser.text('h1') == '<img src=x>'
    for j in range(0, 60, 7): browser.click(f'#p{j}')
    assert browser.complaints() == [] and browser.requests() == [path.as_uri()]


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_the_hottest_piece_can_be_read(models, toks, tmp_path, browser, scheme):
    browser.ask('POST', '/goog/cdp/execute', cmd='Emulation.setEmulatedMedia', params=dict(features=[dict(name='prefers-color-scheme', value=scheme)]))
    browser.open(page(trace(models['llama'], toks['llama'], TEXT), tmp_path/'page.html'))
    hot = int(np.argmax(trace(models['llama'], toks['llama'], TEXT).surprise[-1]))
    style = lambda css, what: [float(x) for x in re.findall(r'[\d.]+', browser.js(f'getComputedStyle(document.querySelector({css!r})).{what}'))]
    ink, paper, (r, g, b, alpha) = style('body', 'color'), style('body', 'backgroundColor'), style(f'#p{hot}', 'backgroundColor')
    mixed = [alpha*255*c + (1 - alpha)*p for c, p in zip((r, g, b), paper)]
    def light(rgb): return sum(w*(c/12.92 if c <= .03928 else ((c + .055)/1.055)**2.4) for w, c in zip((.2126, .7152, .0722), (x/255 for x in rgb)))
    contrast = lambda a, b: (max(light(a), light(b)) + .05)/(min(light(a), light(b)) + .05)
    assert alpha == pytest.approx(.75, abs=.3) and contrast(ink, mixed) > 4.5 and contrast(ink, paper) > 12 and (light(paper) < .1) == (scheme == 'dark')
