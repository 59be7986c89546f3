"Shapes: parameters, operations and caches against the models that transformers builds; published counts; one error for nonsense."
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import (AutoModel, AutoModelForCausalLM, BertConfig, DeepseekV3Config, Gemma2Config, Gemma3TextConfig, GemmaConfig, GPT2Config, GPTNeoXConfig, LlamaConfig,
                          MistralConfig, MixtralConfig, OPTConfig, Qwen2Config, Qwen2MoeConfig, Qwen3Config, Qwen3MoeConfig)

from hyperlex_nb.model import baseline_config, cost
from hyperlex_nb.shapes import SHAPES, Shape, _parts, best_vocabulary

TINY = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, vocab_size=1000, pad_token_id=0)
GQA = dict(TINY, num_key_value_heads=2, intermediate_size=176)
MOE = dict(GQA, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=48)
CONFIGS = dict(
    llama=LlamaConfig(**GQA), llama_biases=LlamaConfig(**GQA, attention_bias=True, mlp_bias=True), llama_tied=LlamaConfig(**GQA, tie_word_embeddings=True), llama_heads=LlamaConfig(**GQA, head_dim=24),
    mistral=MistralConfig(**GQA), gemma=GemmaConfig(**GQA, head_dim=32), gemma2=Gemma2Config(**GQA, head_dim=32), gemma3=Gemma3TextConfig(**GQA, head_dim=32),
    qwen2=Qwen2Config(**GQA), qwen2_tied=Qwen2Config(**GQA, tie_word_embeddings=True), qwen3=Qwen3Config(**GQA, head_dim=32), qwen3_biases=Qwen3Config(**GQA, head_dim=32, attention_bias=True),
    mixtral=MixtralConfig(**GQA, num_local_experts=4), qwen3_moe=Qwen3MoeConfig(**MOE, head_dim=32), qwen3_moe_dense=Qwen3MoeConfig(**MOE, head_dim=32, mlp_only_layers=[0]),
    qwen3_moe_step=Qwen3MoeConfig(**MOE, decoder_sparse_step=2), qwen2_moe=Qwen2MoeConfig(**MOE, shared_expert_intermediate_size=96),
    gpt2=GPT2Config(n_embd=64, n_layer=3, n_head=4, vocab_size=1000, n_positions=128), gpt2_inner=GPT2Config(n_embd=64, n_layer=3, n_head=4, vocab_size=1000, n_positions=128, n_inner=100),
    gpt_neox=GPTNeoXConfig(**TINY, intermediate_size=256), gpt_neox_bare=GPTNeoXConfig(**TINY, intermediate_size=256, attention_bias=False), bert=BertConfig(**TINY, intermediate_size=256))
BIG = {'gpt2': GPT2Config(), 'gpt2-xl': GPT2Config(n_embd=1600, n_layer=48, n_head=25), 'bert-base-cased': BertConfig(vocab_size=28_996),
       'llama-3-70b': LlamaConfig(vocab_size=128_256, hidden_size=8192, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8, intermediate_size=28_672),
       'llama-3.1-405b': LlamaConfig(vocab_size=128_256, hidden_size=16_384, num_hidden_layers=126, num_attention_heads=128, num_key_value_heads=8, intermediate_size=53_248),
       'gpt-neox-20b': GPTNeoXConfig(vocab_size=50_432, hidden_size=6144, num_hidden_layers=44, num_attention_heads=64, intermediate_size=24_576),
       'mixtral-8x7b': MixtralConfig(vocab_size=32_000, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, intermediate_size=14_336, num_local_experts=8, num_experts_per_tok=2),
       'qwen2.5-7b': Qwen2Config(vocab_size=152_064, hidden_size=3584, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4, intermediate_size=18_944),
       'qwen3-30b-a3b': Qwen3MoeConfig(vocab_size=151_936, hidden_size=2048, num_hidden_layers=48, num_attention_heads=32, num_key_value_heads=4, head_dim=128, intermediate_size=6144, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768)}
PUBLISHED = {'gpt2': 124_439_808, 'gpt2-xl': 1_557_611_200, 'bert-base-cased': 108_310_272, 'llama-65b': 65_285_660_672, 'llama-2-7b': 6_738_415_616, 'llama-2-70b': 68_976_648_192, 'llama-3-8b': 8_030_261_248,
             'llama-3-70b': 70_553_706_496, 'llama-3.1-405b': 405_853_388_800, 'mistral-7b': 7_241_732_096, 'mixtral-8x7b': 46_702_792_704, 'qwen2.5-7b': 7_615_616_512, 'qwen3-8b': 8_190_735_360, 'qwen3-30b-a3b': 30_532_122_624}


def real(config):
    with torch.device('meta'): model = (AutoModel if config.model_type == 'bert' else AutoModelForCausalLM).from_config(config)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize('config', CONFIGS.values(), ids=list(CONFIGS))
def test_every_family_to_the_last_weight(config):
    assert Shape.of(config).params == real(config)


@pytest.mark.parametrize('name', BIG)
def test_published_sizes_to_the_last_weight(name):
    assert Shape.of(BIG[name]).params == SHAPES[name].params == real(BIG[name])


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_counts(name):
    assert SHAPES[name].params == PUBLISHED[name]


def test_active_parameters_of_the_mixtures():
    assert abs(SHAPES['mixtral-8x7b'].active/12.9e9 - 1) < .02 and abs(SHAPES['qwen3-30b-a3b'].active/3.3e9 - 1) < .1 # published with the embedding table
    assert SHAPES['gpt3-175b'].active == SHAPES['gpt3-175b'].params - sum(_parts(SHAPES['gpt3-175b'])[k] for k in ('positions', 'norms', 'biases'))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 300), st.integers(3, 3000), st.integers(2, 40), st.booleans())
def test_any_llama(layers, kv, group, ff, vocab, half, tied):
    c = LlamaConfig(vocab_size=vocab, hidden_size=2*half*kv*group, num_hidden_layers=layers, num_attention_heads=kv*group, num_key_value_heads=kv, intermediate_size=ff, tie_word_embeddings=tied, pad_token_id=0)
    s = Shape.of(c)
    assert s.params == real(c) == sum(_parts(s).values()) and 0 < s.active <= s.params + s.embedding


@pytest.mark.parametrize('length', [1, 65])
@pytest.mark.parametrize('config', [c for c in CONFIGS.values() if c.model_type != 'bert'], ids=[k for k in CONFIGS if k != 'bert'])
def test_operations_as_counted_while_running(config, length):
    config._attn_implementation = 'eager'
    if hasattr(config, '_experts_implementation'): config._experts_implementation = 'eager'
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad(): model(torch.randint(0, 1000, (2, length)), use_cache=False)
    assert math.isclose(Shape.of(config).flops(length).value, counter.get_total_flops()/2/length, rel_tol=1e-9)


def test_training_is_three_times_forward_and_agrees_with_the_counter():
    config = CONFIGS['llama']
    config._attn_implementation = 'eager'
    model, ids = AutoModelForCausalLM.from_config(config), torch.randint(0, 1000, (2, 64))
    with FlopCounterMode(display=False) as counter: model(ids, labels=ids).loss.backward()
    assert math.isclose(Shape.of(config).flops(64, training=True).value, counter.get_total_flops()/128, rel_tol=1e-9)


def test_the_same_as_the_cost_of_the_baseline():
    c = baseline_config(5000, 256, 4)
    ours, theirs = Shape.of(c), cost(c, 256)
    assert (ours.params, ours.active, ours.flops(256).value, ours.flops(256, training=True).value) == (theirs.params, theirs.active, theirs.forward, theirs.train)


@pytest.mark.parametrize('N, D, C', [(SHAPES['gpt3-175b'].params, 300e9, 3.14e23), (70e9, 1.4e12, 5.88e23), (405e9, 15.6e12, 3.79e25)])
def test_budgets_by_6ND(N, D, C):
    assert abs(6*N*D/C - 1) < .01


@pytest.mark.parametrize('name', ['llama', 'llama_heads', 'qwen3', 'gpt2', 'mixtral', 'gpt_neox'])
def test_the_cache_is_as_large_as_a_real_one(name):
    model = AutoModelForCausalLM.from_config(CONFIGS[name])
    kept = model(torch.randint(0, 1000, (3, 17)), use_cache=True).past_key_values
    assert Shape.of(CONFIGS[name]).cache(17, 3, 32).value == sum(l.keys.nbytes + l.values.nbytes for l in kept.layers)


def test_the_known_cache():
    s = SHAPES['llama-3-70b']
    assert s.cache(1).value == 2*80*8*128*2 == 327_680 and s.cache(131_072).value == 40*2**30 and s.cache(1, bits=4).value == 81_920
    with pytest.raises(ValueError, match='an encoder keeps no cache'): SHAPES['bert-base-cased'].cache(10)


@pytest.mark.parametrize('tied', [False, True])
@pytest.mark.parametrize('N', [1e7, 3e7, 1.24e8, 1e9, 3e9, 7e9, 8e9, 13e9, 30e9, 70e9, 200e9, 300e9, 1.5e12, 1e13])
@pytest.mark.parametrize('vocab', [8192, 32_000, 128_256])
def test_a_wish_within_five_per_cent(N, vocab, tied):
    s = Shape.sized(N, vocab, tied)
    assert abs(s.params/N - 1) < .05 and s.vocab == vocab and s.tied == tied and 1 < s.ff/s.width < 8.1
    if N >= 8e9: assert s.kv_heads == 8 and s.heads % 8 == 0 and s.head_dim == 128 and 60 < s.width/s.layers < 200


def test_a_wish_that_the_vocabulary_makes_impossible():
    with pytest.raises(ValueError, match='N=1e.06: expected at least 9.9e.06 parameters with vocab=128,256, or a smaller vocabulary'): Shape.sized(1e6)
    with pytest.raises(ValueError, match='or a smaller vocabulary'): Shape.sized(1e9, 10**8)
    assert abs(Shape.sized(9.9e6).params/9.9e6 - 1) < .05 # what the message promises


@pytest.mark.parametrize('N, C, low, value, high', [(70e9, None, 212e3, 218e3, 231e3), (2.87e9, None, 35e3, 38e3, 41e3), (7e9, None, 60e3, 62e3, 67e3), (300e9, None, 356e3, 384e3, 389e3)])
def test_vocabularies_of_the_three_approaches(N, C, low, value, high):
    v = best_vocabulary(N, C)
    assert v.unit == 'token' and all(abs(a/b - 1) < .02 for a, b in ((v.low, low), (v.value, value), (v.high, high)))


def test_the_anchors_of_the_paper():
    assert best_vocabulary(70e9).value > 216e3*.99 # "at least 216K"
    assert abs(best_vocabulary(2.87e9, 2.3e21).value/43e3 - 1) < .03
    budgets = [best_vocabulary(2.87e9, C).value for C in (1e20, 1e21, 1e22, 1e23)]
    assert budgets == sorted(budgets)


NONSENSE = [0, -1, 1e30, float('nan'), float('inf'), 2.5, True, 'много', None]

@pytest.mark.parametrize('name', ['layers', 'width', 'heads', 'ff', 'vocab'])
@pytest.mark.parametrize('bad', NONSENSE, ids=str)
def test_one_error_names_the_size(name, bad):
    with pytest.raises(ValueError, match=f'{name}=.*: expected a whole number from .* to '): Shape(**{**dict(layers=2, width=64, heads=4, ff=176, vocab=1000), name: bad})


@pytest.mark.parametrize('more, name', [(dict(heads=5), 'heads'), (dict(kv_heads=3), 'kv_heads'), (dict(kv_heads=8), 'kv_heads'), (dict(chosen=1), 'chosen'), (dict(experts=4), 'chosen'), (dict(experts=4, chosen=5), 'chosen'),
                                        (dict(dense_layers=1), 'dense_layers'), (dict(experts=4, chosen=1, dense_layers=2), 'dense_layers'), (dict(shared_ff=8), 'shared_ff'), (dict(norm='batch'), 'norm'),
                                        (dict(bias=('all',)), 'bias'), (dict(head_dim=0), 'head_dim'), (dict(positions=-1), 'positions')])
def test_sizes_that_fit_no_model(more, name):
    with pytest.raises(ValueError, match=f'{name}=.*expected'): Shape(**{**dict(layers=2, width=64, heads=4, ff=176, vocab=1000), **more})


def test_whole_floats_are_taken():
    assert Shape(2., 64, 4, 176, 1e3) == Shape(2, 64, 4, 176, 1000)


@pytest.mark.parametrize('config, why', [(OPTConfig(), "config='opt'.*expected one of llama, mistral"), (DeepseekV3Config(), 'multi-head latent attention'), (None, 'expected one of'), ({'model_type': 'llama'}, 'expected one of')])
def test_unknown_families_are_refused(config, why):
    with pytest.raises(ValueError, match=why): Shape.of(config)


BAD = [0, -1, float('nan'), float('inf'), 1e40, None, 'много', True]

@pytest.mark.parametrize('call, name', [(SHAPES['gpt2'].flops, 'length'), (SHAPES['gpt2'].cache, 'length'), (lambda x: SHAPES['gpt2'].cache(1, x), 'batch'), (Shape.sized, 'N'), (best_vocabulary, 'N'),
                                        (lambda x: best_vocabulary(1e9, x or 0), 'C'), (lambda x: Shape.sized(1e9, x), 'vocab')])
@pytest.mark.parametrize('bad', BAD, ids=str)
def test_one_error_names_the_parameter(call, name, bad):
    with pytest.raises(ValueError, match=f'{name}=.*expected a .*number from .* to '): call(bad)


@pytest.mark.parametrize('bits', [0, 3, 64, 'четыре', None])
def test_bits(bits):
    with pytest.raises(ValueError, match='bits=.*expected 4, 8, 16 or 32'): SHAPES['gpt2'].cache(10, bits=bits)
