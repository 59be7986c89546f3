"The planner's calls: JSON that is whole, the numbers of the modules below, published anchors, one error for nonsense."
import json, math
from pathlib import Path

import pytest

from hyperlex_nb import planner
from hyperlex_nb.chooser import choose
from hyperlex_nb.equivalence import equivalence
from hyperlex_nb.estimates import Estimate, Sheet
from hyperlex_nb.laws import LAWS, chinchilla, effective_tokens
from hyperlex_nb.machines import Route, bill
from hyperlex_nb.memory import serving_memory, training_memory
from hyperlex_nb.pages import convert, levels
from hyperlex_nb.planner import plan_choose, plan_corpus, plan_equivalence, plan_model, plan_route, plan_train
from hyperlex_nb.shapes import SHAPES, Shape, best_vocabulary

NOUNS, VERBS = 'дом лес река суд закон врач город поле дорога снег мост сад'.split(), 'стоит молчит спит горит ждёт поёт растёт гремит'.split()


@pytest.fixture(scope='module')
def topic(tmp_path_factory):
    "24 documents of 440 words, three of each four of a small vocabulary"
    import random
    rng, folder = random.Random(0), tmp_path_factory.mktemp('texts')/'лес и дом'
    folder.mkdir()
    for i in range(24):
        text = ' '.join(f'{rng.choice(NOUNS)} {rng.choice(VERBS)} сло{"".join(rng.choice("абвгдежзик") for _ in range(3))} {rng.choice(NOUNS)}.' for _ in range(110))
        (folder/f'{i}.txt').write_text(text, encoding='utf-8')
    return folder


CALLS = {'model': lambda: plan_model('70B'), 'published model': lambda: plan_model(shape='mixtral-8x7b', tensor=2, bits=4), 'encoder': lambda: plan_model(shape='bert-base-cased', gpus=1), 'train': lambda: plan_train('70B', '1.4T'), 'train where it does not fit': lambda: plan_train('70B', '1.4T', gpu='T4', gpus=1, unique='100B'),
         'ladder': plan_corpus, 'amount': lambda: plan_corpus(pages='100M', corpus='classics'), 'equivalence': plan_equivalence, 'impossible': lambda: plan_equivalence('70B', compression='2[1.8,2.2]', bits_ratio='0.8[0.7,0.97]'), 'route': plan_route, 'choose': lambda: plan_choose('facts,style', '50M', budget=1000, latency='5'),
         'nothing to choose': lambda: plan_choose('skill', '50M', budget=.01)}


@pytest.mark.parametrize('call', CALLS.values(), ids=list(CALLS))
def test_a_sheet_is_json_and_text(call):
    sheet = call()
    told, text = sheet.as_dict(), str(sheet)
    assert json.loads(json.dumps(told, allow_nan=False, ensure_ascii=False)) == told and set(told) == {'title', 'given', 'results', 'notes'}
    assert set(told['results']) == set(sheet.results) and text.splitlines()[0] == sheet.title
    assert all(name in text for name in (*map(str, sheet.given), *map(str, sheet.results), *sheet.notes)) and 'Estimate(' not in text and 'Match(' not in text and 'nan' not in text.split()
    def estimates(x):
        if isinstance(x, dict):
            if {'value', 'low', 'high', 'unit'} <= set(x): yield x
            else: yield from (y for v in x.values() for y in estimates(v))
    found = list(estimates(told['results']))
    for e in found: assert None in (e['value'], e['low'], e['high']) or 0 < e['low'] <= e['value'] <= e['high']
    assert len(found) > 3


def values(told, *path):
    for k in path: told = told[k]
    return told['low'], told['value'], told['high']


def test_what_cannot_be_reached_is_none_with_its_chance():
    e = plan_equivalence('70B', compression=2, bits_ratio=.8).as_dict()['results']['70B']
    assert e['same_balance']['value'] is None and e['same_balance']['possible'] == 0 and 'impossible' in str(plan_equivalence('70B', compression=2, bits_ratio=.8))


def test_the_model_is_the_shapes_and_the_memorys():
    s, p = SHAPES['llama-3-8b'], plan_model(shape='llama-3-8b', length=2048, batch=2, bits=8, method='lora', gpus=4, gpu='A100', sharding='zero2', tensor=2, checkpointing=False, precision='bf16', rank=8)
    train, serve = training_memory(s, 'lora', batch=2, length=2048, gpus=4, sharding='zero2', tensor=2, checkpointing=False, precision='bf16', rank=8), serving_memory(s, length=2048, batch=2, bits=8, tensor=2)
    assert (p['parameters'].value, p['active'].value, p['layers']) == (s.params, s.active, 32) and p['flops_training'].value == 3*p['flops_forward'].value == 3*s.flops(2048).value
    assert p['training']['total'] == train.total and p['answering']['total'] == serve.total and p['cache'] == s.cache(2048, 2) and p['best_vocabulary'] == best_vocabulary(s.params - 2*s.embedding)
    assert (p['training_fits'], p['answering_fits'], p['fewest_gpus_to_answer']) == (train.fits(80e9), serve.fits(80e9), 1)
    assert plan_model('70B', gpu='H100')['fewest_gpus_to_answer'] == 2 and plan_model(shape='llama-3.1-405b', gpu='T4')['fewest_gpus_to_answer'] is None
    assert 'answering' not in plan_model(shape='bert-base-cased').results


def test_a_model_from_its_configuration(tmp_path):
    (tmp_path/'config.json').write_text(json.dumps(dict(model_type='llama', hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, vocab_size=128_256)))
    for config in (tmp_path, str(tmp_path/'config.json')): assert plan_model(config=config).results == plan_model(shape='llama-3-8b').results


def test_a_model_by_size_has_its_size_and_vocabulary():
    p = plan_model('7e9', vocab='64k')
    assert abs(p['parameters'].value/7e9 - 1) < .05 and p['vocabulary'].value == 2*64_000*p['width'] and plan_model(N=7e9, vocab=64_000).results == p.results


def test_training_is_the_laws_the_bills_and_the_memorys():
    p, law, b = plan_train('8B', '2T', unique='400B', law='hoffmann', gpu='A100', gpus=512, mfu='0.35..0.45', price='2', tensor=2, length=2048, vocab=64_000, corpus='classics', tokenizer='o200k'), LAWS['hoffmann'], bill(6*8e9*2e12, 'A100', 512, '0.35..0.45', 2)
    worth, s = effective_tokens(2e12, 4e11), Shape.sized(8e9, vocab=64_000)
    assert p['worth'].value == worth and p['loss'] == law.loss(8e9, worth) and p['best_loss'] == law.optimum(6*8e9*2e12)[2] and p['tokens_per_parameter'] == 250
    assert (p['gpu_hours'], p['days'], p['energy'], p['cost'], p['nodes']) == (b.hours, b.days, b.energy, b.cost, 64)
    memory = training_memory(s, length=2048, gpus=512, sharding='fsdp', tensor=2)
    assert p['memory']['total'] == memory.total and p['fits'] == memory.fits(80e9)
    assert p['text']['page'] == convert(Estimate(2e12, unit='token'), 'page', 'classics', 'o200k')
    few = plan_train('8B', '2T', law='hoffmann', gpu='L4')['fewest_gpus']
    assert training_memory(Shape.sized(8e9), length=4096, gpus=few, sharding='fsdp').fits(24e9) and not training_memory(Shape.sized(8e9), length=4096, gpus=few//2, sharding='fsdp').fits(24e9)
    assert {'mfu', 'price', 'draw', 'pue', 'gpus'} <= set(p.given) and 'does not fit' not in str(p) and 'does not fit' in str(plan_train('70B', '1.4T', gpus=1, law='besiroglu'))


@pytest.mark.parametrize('law', ['hoffmann', 'besiroglu'])
def test_two_of_three_give_the_third(law):
    sheets = [plan_train(law=law, **kw) for kw in (dict(N='70B', D='1.4T'), dict(N=70e9, C='5.88e23'), dict(D=1.4e12, C=5.88e23), dict(N='70B', D='1.4T', C='5.88e23'), dict(N='70B', D='1.4T', C='5.76e23'))]
    for s in sheets: assert (s['parameters'].value, s['tokens'].value, s['flops'].value) == pytest.approx((70e9, 1.4e12, 5.88e23)) and s['loss'].value == pytest.approx(sheets[0]['loss'].value)


@pytest.mark.parametrize('law', ['refit', 'hoffmann', 'besiroglu'])
@pytest.mark.parametrize('kw', [dict(C='5.76e23'), dict(N='70B'), dict(D='1.4T')], ids=str)
def test_one_of_three_is_completed_by_the_law(law, kw):
    p = plan_train(law=law, **kw)
    assert p['parameters'].value == pytest.approx(p['best_parameters'].value) and p['loss'].value == pytest.approx(p['best_loss'].value) and p['flops'].value == pytest.approx(6*p['parameters'].value*p['tokens'].value)


def test_three_that_do_not_go_together_and_none():
    with pytest.raises(ValueError, match='C=5e.22: expected 6ND = 5.88e.23 FLOP'): plan_train('70B', '1.4T', '5e22')
    with pytest.raises(ValueError, match='N, D, C: expected one or two'): plan_train()


@pytest.mark.parametrize('name, x', [('pages', '100M'), ('books', 20_000), ('words', 2e9), ('characters', '1e9..2e9'), ('bytes', '1T'), ('tokens', '1.4T'), ('hypertokens', '30B[20B,100B]')])
def test_amounts_are_those_of_pages(name, x):
    p, unit = plan_corpus(**{name: x}, corpus='classics', tokenizer='cl100k'), planner._AMOUNTS[name]
    assert p[unit] == p.given[name]
    for to in planner._UNITS: assert p[to] == convert(p.given[name], to, 'classics', 'cl100k')


def test_the_ladder_is_that_of_pages():
    p = plan_corpus(tokenizer='cl100k')
    assert [r['tokens'] for r in p.results.values()] == [l.tokens for l in levels(tokenizer='cl100k')] and len(p.results) == 4 and all(r['known'] and r['not_known'] for r in p.results.values())


def test_a_topic_is_measured_and_drawn(topic, tmp_path):
    from hyperlex_nb.saturation import THRESHOLDS, growth
    from hyperlex_nb.sources import documents
    p, g = plan_corpus(topic=str(topic), bits_characters='20k', figure=tmp_path/'a.png'), growth(documents(topic), bits=2e4)
    assert (p['documents'], p['words'].value, p['bytes'].value) == (24, g.words, sum(len(f.read_text(encoding='utf-8').strip().encode()) for f in topic.iterdir()))
    measured = [m for m in THRESHOLDS if m in g.curves]
    assert {'words', 'facts', 'bits'} <= set(measured) and p.as_dict()['results']['curves'] == json.loads(json.dumps(g.as_dict()['curves']))
    for m in measured: assert p[f'until_{m}']['words'] == g.until(m).words and p[f'until_{m}']['says'] == str(g.until(m))
    assert p['heaps_words']['beta'] == g.heaps['words'][1] and (tmp_path/'a.png').read_bytes().startswith(b'\x89PNG') and (tmp_path/'a.png').stat().st_size > 5000
    text = str(p)
    assert json.dumps(p.as_dict(), allow_nan=False) and 'curves' not in text and p.title == 'Saturation of лес и дом' and 'new' in text and str(tmp_path) not in text


def test_a_topic_has_seed_limit_and_no_bits(topic):
    a, b, c = (plan_corpus(topic=topic, bits_characters=0, seed=s).as_dict() for s in (3, 3, 4))
    assert a == b != c and a['results']['words'] == c['results']['words'] and 'until_bits' not in a['results']
    with pytest.raises(ValueError, match='at least 10 different documents|at least 5,000 words'): plan_corpus(topic=topic, limit='20k', bits_characters=0)
    with pytest.raises((ValueError, OSError), match='nowhere'): plan_corpus(topic='nowhere')


def test_a_figure_that_cannot_be_written_is_said_before_the_reading(topic, tmp_path, monkeypatch):
    from hyperlex_nb import saturation
    monkeypatch.setattr(saturation, 'growth', lambda *a, **k: pytest.fail('the topic was read first'))
    for bad in ('a.zzz', 'nowhere/a.png'):
        with pytest.raises((ValueError, OSError), match='zzz|nowhere'): plan_corpus(topic=topic, figure=tmp_path/bad)


def test_equivalence_is_that_of_its_module():
    p = plan_equivalence('30B,70B', D='1.4T', multiplier='2.2[1.9,2.6]', targets='300B', seed=3)
    for n, row in zip((30e9, 70e9), p.results.values()):
        e = equivalence(n, 1.4e12, '2.2[1.9,2.6]', targets=(300e9,), seed=3)
        assert (row['multiplier'], row['loss'], row['same_balance'], row['same_text'], row['same_size']) == (e.multiplier, e.loss, e.balanced, e.same_text, e.same_size) and list(row['multiplier_needed'].values()) == list(e.needed.values())
    assert list(plan_equivalence([30e9, '70B'], multiplier=2, law='besiroglu', targets=300e9).results) == ['30B', '70B']
    one = plan_equivalence('70B', compression='1.23[1.18,1.25]', bits_ratio='0.997[0.981,1.01]').results['70B']
    assert one['multiplier'] == equivalence('70B', compression='1.23[1.18,1.25]', price='0.997[0.981,1.01]').multiplier


def test_without_a_multiplier_the_best_published_is_taken_and_said():
    p = plan_equivalence('70B')
    assert p['70B']['same_balance'] == equivalence(70e9, m=Estimate(2.25, 2, 2.5)).balanced and any('published' in n for n in p.notes) and 'H-Net' in str(p)
    with pytest.raises(ValueError, match='multiplier: expected either'): plan_equivalence('70B', multiplier=2, bits_ratio=1)


def test_no_size_is_lost_where_two_are_nearly_equal():
    assert len(plan_equivalence('70.01B,70.02B', law='besiroglu').results) == 2
    assert sum('A100' in k for k in plan_route('70.01B,70.02B').results) == 2
    assert len(plan_equivalence('70B', targets='300.1B,300.2B', law='besiroglu')['70B']['multiplier_needed']) == 2


def test_the_route_is_that_of_machines_with_every_assumption():
    p, r = plan_route('70B', price='2'), Route(gpu='H100', gpus=256)
    assert (p['lines'].value, p['tokens'].value) == (r.lines.value, r.tokens.value)
    row = p['70B on 256 H100']
    for name, truth in (('months_to_write', r.months_to_write), ('months_to_train', r.months_to_train), ('gpus_for_two_months', r.gpus_for(2)), ('cost_to_train', bill(r.flops, 'H100', 256, price=2).cost)):
        assert (row[name].low, row[name].value, row[name].high) == pytest.approx((truth.low, truth.value, truth.high)), name
    assert (p['70B on 16 A100']['fits'], plan_route('200B')['200B on 256 H100']['fits']) == (False, True)
    assert {'size', 'line', 'char_bytes', 'token_bytes', 'writer', 'decode', 'mfu_A100', 'price_A100'} <= set(p.given)


def test_the_price_is_among_the_routes_assumptions():
    for p in (plan_route('70B'), plan_route('70B', price=3)): assert any('price' in k for k in p.given)


@pytest.mark.parametrize('name, half', [('size', ('0.5T', '1T')), ('writer', ('11B', '22B')), ('token_bytes', ('4', '2')), ('mfu', ('0.4', '0.2')), ('a100', (32, 16))])
def test_every_assumption_of_the_route_is_a_parameter(name, half):
    a, b = (plan_route('70B', **{name: x}) for x in half)
    key = 'months_to_write' if name == 'writer' else 'months_to_train'
    x, y = ([v for k, v in p.results.items() if 'A100' in k][0][key].value for p in (a, b))
    assert y == pytest.approx(2*x)


def test_the_choice_is_that_of_its_module():
    p, a = plan_choose('facts,style', '50M', N='8B', change='daily', private=True, budget=500, gpus=2), choose('facts,style', '50M', '8B', 'daily', True, budget=500, gpus=2)
    assert p['recommended'] == a.best.name and list(p.results)[1:] == [o.name for o in a.options] and p.notes == a.assumed
    for o in a.options: assert (p[o.name]['cost'], p[o.name]['reasons'], p[o.name]['against'], p[o.name]['would_change_it'], p[o.name]['possible']) == (o.cost, o.reasons, o.against, o.evidence, o.possible)
    assert plan_choose('facts', '50M', budget=.01)['recommended'] is None


# published anchors

@pytest.mark.parametrize('N, D, flops, off', [(174.6e9, 300e9, 3.14e23, .01), ('70B', '1.4T', 5.88e23, .001), ('70B', '1.4T', 5.76e23, .03), ('405B', '15.6T', 3.79e25, .001)])
def test_anchor_flops(N, D, flops, off): assert abs(plan_train(N, D, law='besiroglu')['flops'].value/flops - 1) < off


@pytest.mark.parametrize('kw, hours', [(dict(N='8B', D='15T'), 1.3e6), (dict(N='8B', D='15T'), 1.46e6), (dict(N='70B', D='15T'), 6.4e6), (dict(N='70B', D='15T'), 7.0e6), (dict(N='405B', D='15.6T'), 30.84e6), (dict(C=4.33e19, gpus=8), 10_949*8/3600)], ids=str)
def test_anchor_hours(kw, hours):
    e = plan_train(law='besiroglu', **kw)['gpu_hours']
    assert e.low*.999 <= hours <= e.high*1.001


@pytest.mark.parametrize('law, coefficients', [('hoffmann', (1.69, 406.4, 410.7, .34, .28)), ('besiroglu', (1.81686, 482.006, 2085.434, .34781, .36585))])
def test_anchor_losses(law, coefficients):
    E, A, B, alpha, beta = coefficients
    assert plan_train('70B', '1.4T', law=law)['loss'].value == pytest.approx(E + A/70e9**alpha + B/1.4e12**beta)


def test_anchor_the_refit():
    "The brief refit of the same points that others made lies within our interval of the loss"
    E, A, B, alpha, beta = 1.81722, 477.83, 2143.4, .34731, .36717
    p = plan_train('70B', '1.4T')
    assert p['loss'].low < E + A/70e9**alpha + B/1.4e12**beta < p['loss'].high and p['loss'].value == chinchilla().loss(70e9, 1.4e12).value
    assert p['best_parameters'].low < 70e9 < p['best_parameters'].high


def test_anchor_accelerates_estimate():
    "accelerate's table of bert-base-cased in fp32: 413 MiB of weights, 1.61 GiB with gradients and Adam"
    p = plan_model(shape='bert-base-cased', precision='fp32', gpus=1, sharding='ddp', length=128)['training']
    assert 413 <= p['weights'].value/2**20 <= 418 and (p['weights'].value + p['gradients'].value + p['optimizer'].value)/2**30 == pytest.approx(1.61, rel=.01)


@pytest.mark.parametrize('law, D, times', [('hoffmann', 1.4e12, 2.2), ('besiroglu', 1.4e12, 4.7), ('besiroglu', 15e12, None)])
def test_anchor_what_a_70b_needs_to_match_300b(law, D, times):
    low, high = 1., 1e6
    for _ in range(120):
        mid = math.sqrt(low*high)
        row = plan_equivalence('70B', D=D, multiplier=mid, law=law)['70B']
        low, high = (mid, high) if row['same_text'].value < 300e9 else (low, mid)
    assert row['same_text'].value == pytest.approx(300e9, rel=1e-3)
    assert row['same_size'].value == math.inf if times is None else row['same_size'].value/D == pytest.approx(times, abs=.05)


# bad input

BAD = [-1, 0, float('nan'), float('inf'), 1e30, '', 'сто', True]
NUMBERS = [(plan_model, dict(N='70B'), ['N', 'length', 'batch', 'gpus', 'tensor', 'rank', 'vocab']), (plan_train, dict(N='70B', D='1.4T', law='besiroglu'), ['N', 'D', 'unique', 'gpus', 'mfu', 'price', 'tensor', 'length', 'batch', 'vocab']),
           (plan_train, dict(law='besiroglu'), ['N', 'D', 'C']), (plan_corpus, {}, list(planner._AMOUNTS)), (plan_equivalence, dict(N='70B', law='besiroglu'), ['N', 'D', 'multiplier', 'compression', 'bits_ratio', 'targets']),
           (plan_route, {}, ['N', 'size', 'line', 'token_bytes', 'writer', 'decode', 'a100', 'h100', 'mfu', 'price']), (plan_choose, dict(goal='facts', D='50M'), ['D', 'N', 'budget', 'latency', 'gpus', 'price'])]

@pytest.mark.parametrize('bad', BAD, ids=str)
@pytest.mark.parametrize('call, rest, name', [(call, rest, name) for call, rest, names in NUMBERS for name in names], ids=lambda x: getattr(x, '__name__', x) if not isinstance(x, dict) else '')
def test_one_line_names_the_parameter_and_its_range(call, rest, name, bad):
    with pytest.raises(ValueError, match=f'^{name}=.*expected a (whole )?number from .* to ') as e: call(**{**rest, name: bad})
    assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize('bad', [-1, float('nan'), float('inf'), 1e30, '', 'сто', True, 1.5], ids=str)
@pytest.mark.parametrize('call', ['equivalence', 'topic'])
def test_a_seed_is_a_whole_number(call, bad, topic):
    with pytest.raises(ValueError, match='^seed=.*expected a (whole )?number from'): plan_equivalence('70B', law='besiroglu', seed=bad) if call == 'equivalence' else plan_corpus(topic=topic, bits_characters=0, seed=bad)


@pytest.mark.parametrize('name', ['limit', 'bits_characters'])
@pytest.mark.parametrize('bad', [-1, float('nan'), float('inf'), 1e30, '', 'сто', True], ids=str)
def test_a_topics_numbers(name, bad, topic):
    with pytest.raises(ValueError, match=f'^{name}=.*expected a (whole )?number from .* to '): plan_corpus(topic=topic, **{name: bad})


@pytest.mark.parametrize('call, name', [(lambda: plan_model(70), 'N'), (lambda: plan_train(70, '1.4T'), 'N'), (lambda: plan_train('70B', 1.4), 'D'), (lambda: plan_train(C=5.76), 'C'), (lambda: plan_equivalence(70), 'N'), (lambda: plan_equivalence('70B', targets='300'), 'targets'), (lambda: plan_route(70), 'N'), (lambda: plan_route(size=1), 'size'), (lambda: plan_choose('facts', '50M', N=8), 'N')])
def test_a_size_without_its_suffix_is_asked_about(call, name):
    with pytest.raises(ValueError, match=f'^{name}=.*expected a (whole )?number from .* to '): call()


@pytest.mark.parametrize('call', [lambda g: plan_model('70B', gpu=g), lambda g: plan_train('70B', '1.4T', law='besiroglu', gpu=g), lambda g: plan_choose('facts', '50M', gpu=g)])
@pytest.mark.parametrize('gpu', ['TPU', '', None, 100])
def test_an_unknown_card_is_answered_with_the_known(call, gpu):
    with pytest.raises(ValueError, match="^gpu=.*expected one of A100, H100"): call(gpu)


@pytest.mark.parametrize('call', [lambda **kw: plan_model('70B', **kw), lambda **kw: plan_train('70B', '1.4T', law='besiroglu', **kw)])
@pytest.mark.parametrize('kw, says', [(dict(tensor=3), 'tensor=3: expected a divisor of kv_heads=8'), (dict(tensor=16, gpus=16), 'tensor=16: expected a divisor'), (dict(tensor=8, gpus=12), 'gpus=12: expected a multiple of tensor=8'), (dict(gpus=8.5), 'gpus=8.5: expected a whole number'),
                                      (dict(method='sgd'), "method='sgd': expected one of adamw, adamw8bit, lora, qlora"), (dict(sharding='zero3'), "sharding='zero3': expected one of ddp"), (dict(precision='fp8'), "precision='fp8': expected one of mixed")])
def test_a_model_that_cannot_be_divided_so(call, kw, says):
    with pytest.raises(ValueError, match=says): call(**kw)


@pytest.mark.parametrize('call, says', [
    (lambda: plan_model(), 'N, shape, config: expected exactly one'), (lambda: plan_model('7B', shape='gpt2'), 'exactly one of them, got N, shape'), (lambda: plan_model(shape='gpt5'), "shape='gpt5': expected one of gpt2"), (lambda: plan_model(config='nowhere'), "config='nowhere': no such file"),
    (lambda: plan_model(shape='gpt2', vocab=9), 'vocab=9: expected only together with N'), (lambda: plan_model('70B', bits=5), 'bits=5: expected one of'), (lambda: plan_model('10M', vocab='1M'), 'N=1e.07: expected at least'), (lambda: plan_train('8B', '1T', law='mine'), "law='mine': expected one of refit, hoffmann, besiroglu"),
    (lambda: plan_train('8B', '1T', tokenizer='x'), "tokenizer='x': expected one of gpt2"), (lambda: plan_train('8B', '1T', mfu=2), 'mfu=2: expected a number from 0.001 to 1'), (lambda: plan_corpus(pages=1, books=1), 'pages, books: expected at most one'), (lambda: plan_corpus(pages=1, topic='x'), 'pages, topic: expected at most one'),
    (lambda: plan_corpus(corpus='web'), "corpus='web': expected one of opencorpora, classics"), (lambda: plan_corpus(pages=5, figure='a.png'), 'figure: expected only together with topic'), (lambda: plan_equivalence('70B', bits_ratio=20), 'bits_ratio=20: expected'), (lambda: plan_choose('wisdom', '50M'), "goal='wisdom': expected one of facts"),
    (lambda: plan_choose('facts', '50M', tokens='old'), "tokens='old': expected one of known, new"), (lambda: plan_choose('facts', '50M', change='often'), "change='often': expected one of never")])
def test_what_is_not_known_is_answered_with_what_is(call, says):
    with pytest.raises(ValueError, match=says) as e: call()
    assert len(str(e.value).splitlines()) == 1


@pytest.mark.parametrize('text, says', [('{', 'config.json|JSON'), ('{"a": 1}', 'model_type'), ('{"model_type": "mamba"}', "config='mamba'.*expected one of llama")])
def test_a_configuration_that_says_nothing(tmp_path, text, says):
    (tmp_path/'config.json').write_text(text)
    with pytest.raises((ValueError, OSError), match=says) as e: plan_model(config=tmp_path)
    assert len(str(e.value).splitlines()) == 1


def test_a_shape_whose_parts_do_not_divide_is_still_answered(tmp_path):
    "Nobody asked for tensor=16: the search for the fewest cards must not stumble over an odd width"
    (tmp_path/'config.json').write_text(json.dumps(dict(model_type='llama', hidden_size=8192, num_hidden_layers=200, num_attention_heads=64, num_key_value_heads=64, intermediate_size=30_008, vocab_size=32_000)))
    assert plan_model(config=tmp_path, gpu='T4')['fewest_gpus_to_answer'] is None


def test_the_fewest_cards_are_found_where_they_are_no_power_of_two():
    how = dict(method='adamw', sharding='fsdp', batch=1, length=512, checkpointing=True, precision='mixed')
    shape, card = planner.Shape(3, 384, 6, 1536, 32_000), planner._gpu('H100')
    assert [planner._fewest(shape, card, tensor=t, **how) for t in (1, 2, 3)] == [1, 2, 3]


def test_repetition_beyond_measure_names_the_parameter():
    with pytest.raises(ValueError, match='^unique='): plan_train('1B', '20B', unique=1, law='besiroglu')
