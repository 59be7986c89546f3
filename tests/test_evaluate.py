import math
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from hyperlex_nb.evaluate import Bpb, _windows, bits_per_byte, compare, surprise
from hyperlex_nb.pairs import sentence_bits
from hyperlex_nb.runs import ratio_interval
from hyperlex_nb.model import baseline_config, build
from hyperlex_nb.tokenizer import load_tokenizer


@pytest.fixture(scope='module')
def tok(material): return load_tokenizer(material/'tok')


@pytest.fixture(scope='module')
def model(): return build(baseline_config(1024, 32, 2, 32)).eval()


@given(st.integers(0, 300), st.integers(1, 50), st.data())
def test_windows_count_every_position_once(n, context, data):
    overlap = data.draw(st.integers(0, context - 1))
    spans = list(_windows(n, context, overlap))
    assert [i for s, e, c in spans for i in range(c, e)] == list(range(n)) and all(s <= c < e and e - s <= context for s, e, c in spans)


def test_a_uniform_model_gives_tokens_times_log_v(tok, model):
    flat = build(model.config); flat.lm_head.weight.data.zero_()
    text = 'Бессознательное структурировано как язык. ' * 9
    bits = surprise(flat.eval(), tok, text)
    assert len(bits) == len(tok(text).input_ids) + 1 and np.allclose(bits, math.log2(1024))


def test_bits_equal_the_loss_of_transformers(tok, model):
    text = 'Мама мыла раму.'
    ids = torch.tensor([[tok.eos_token_id, *tok(text).input_ids, tok.eos_token_id]])
    with torch.no_grad(): want = torch.nn.functional.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction='none').numpy() / math.log(2)
    assert np.allclose(surprise(model, tok, text), want, atol=.05)


def families():
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, Qwen3Config, Qwen3ForCausalLM
    torch.manual_seed(0)
    sizes = dict(vocab_size=1024, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=32)
    yield GPT2LMHeadModel(GPT2Config(vocab_size=1024, n_embd=32, n_layer=1, n_head=2, n_positions=32))
    yield GPTNeoXForCausalLM(GPTNeoXConfig(**sizes))
    yield Qwen3ForCausalLM(Qwen3Config(**sizes, num_key_value_heads=1, head_dim=16))
    adapted = get_peft_model(build(baseline_config(1024, 32, 1, 32)), LoraConfig(target_modules=['q_proj', 'v_proj'], r=2))
    for n, p in adapted.named_parameters():
        if 'lora_B' in n: torch.nn.init.normal_(p)
    yield adapted


def test_models_of_other_families_and_adapters_have_the_bits_that_their_logits_say(tok):
    text = 'Мама мыла раму.'
    ids = torch.tensor([[tok.eos_token_id, *tok(text).input_ids, tok.eos_token_id]])
    for model in families():
        with torch.no_grad(): want = torch.nn.functional.cross_entropy(model.eval()(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction='none').numpy() / math.log(2)
        assert np.allclose(surprise(model, tok, text), want, atol=.08), type(model)
        assert sentence_bits(model, tok, [text])[0] == pytest.approx(want.sum(), rel=.01)


def test_a_model_that_squashes_its_logits_is_refused_not_mismeasured(tok):
    from transformers import Gemma2Config, Gemma2ForCausalLM
    model = Gemma2ForCausalLM(Gemma2Config(vocab_size=1024, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=16, final_logit_softcapping=.01)).eval()
    with pytest.raises(ValueError, match='more than its head'): surprise(model, tok, 'Мама мыла раму.')


def test_context_helps_and_batching_does_not_matter(tok, model):
    text = 'Тишина. Жар. Печаль. Снег идёт, и всё в смятении. ' * 8
    a, b = surprise(model, tok, text, batch=1), surprise(model, tok, text, batch=50)
    assert np.allclose(a, b, atol=.05) and len(surprise(model, tok, text, overlap=0)) == len(a)
    for bad in -1, 32:
        with pytest.raises(ValueError, match='overlap'): surprise(model, tok, text, overlap=bad)


def test_hostile_text(tok, model):
    for text in '\x00', '👩‍👩‍👧', 'е\u0301', '\r\n\t', '<|endoftext|>', 'x' * 5000:
        assert np.isfinite(surprise(model, tok, text)).all()
    with pytest.raises(ValueError, match='lone surrogate'): surprise(model, tok, 'а\ud800')
    with pytest.raises(ValueError, match='empty text'): surprise(model, tok, '')


def test_bytes_are_those_of_the_text_and_works_are_joined(tok, model):
    docs = [dict(text='Мир.', work='a'), dict(text='Труд.', work='a'), dict(text='Май', work='b'), dict(text='', work='c')]
    model.train(); b = bits_per_byte(model, tok, docs)
    assert model.training and set(b.works) == {'a', 'b'} and b.works['a'][1] == 16 and b.value == sum(x for x, _ in b.works.values()) / 22
    model.eval()
    with pytest.raises(ValueError, match='no held-out'): bits_per_byte(model, tok, [])


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for i in range(200):
        size = rng.integers(50, 500, 40); bits = size * rng.normal(2, .3, 40)
        _, low, high = ratio_interval(bits, size, draws=400, seed=i)
        hits += low < 2 < high
    assert .88 < hits / 200 < .99


def test_paired_difference_is_antisymmetric_and_narrower():
    rng = np.random.default_rng(0)
    size, hard = rng.integers(50, 500, 60), rng.normal(2, .5, 60)
    make = lambda shift: Bpb(0, 0, 0, {i: (float(s * (h + shift + e)), int(s)) for i, (s, h, e) in enumerate(zip(size, hard, rng.normal(0, .01, 60)))})
    a, b = make(0), make(.05)
    d, low, high = compare(b, a)
    assert d == pytest.approx(.05, abs=.01) and 0 < low < d < high < .06 and compare(a, b)[0] == pytest.approx(-d)
    with pytest.raises(ValueError, match='different works'): compare(a, Bpb(0, 0, 0, {1: (1., 1)}))


def test_by_genre_is_a_partition_with_intervals_of_its_own():
    works = {f'w{i}': (float(i + 1), 10) for i in range(8)}
    b = Bpb(.45, .3, .6, works)
    groups = b.by({f'w{i}': 'проза' if i < 5 else 'стихи' for i in range(7)})
    assert list(groups) == ['проза', 'стихи', ''] and groups['проза'].value == pytest.approx(15/50) and groups[''].low == groups[''].value == .8
    assert {w for g in groups.values() for w in g.works} == set(works) and groups['проза'].low < .3 < groups['проза'].high
