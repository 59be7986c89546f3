"A line becomes a training of the budget it was given, once; choosing and reporting never share a work."
import json
import pytest
from hyperlex_nb.recipes import Recipe, bake, held_out


@pytest.mark.parametrize('line', ['llama 512 32x1 32x4', 'core 700 32x1 64x4 piece_width=32 piece_hidden=64 word_rows=64 prefix_rows=64 muon_lr=0.01', 'variant 512 32x1 32x4 gram_rows=64 optimizer=adamw'])
def test_a_line_is_read_and_written(line):
    r = Recipe.parse(line)
    assert str(r) == line and Recipe.parse(str(r)) == r and r.byline != Recipe.parse(line + ' seed2=1').byline


@pytest.mark.parametrize('line', ['', 'llama', 'llama 512 32x1', 'llama x 32x1 32x4', 'llama 512 32 32x4', 'llama 512 32x1 32x4 lr', 'llama 512 32x1x2 32x4'])
def test_what_is_no_recipe(line):
    with pytest.raises(ValueError, match='no recipe; expected architecture'): Recipe.parse(line)


def test_the_two_sets_are_apart_and_stay(material):
    a, b = held_out(material/'corpus', 6, 3)
    assert not {d['work'] for d in a} & {d['work'] for d in b} and 2 <= len(a) <= 6 and b
    assert all(held_out(material/'corpus', 500, 1)) and all(held_out(material/'corpus', 1, 500))
    assert [d['work'] for d in held_out(material/'corpus', 6, 3)[0]] == [d['work'] for d in a]


def test_baked_once_and_to_the_budget(material, tmp_path):
    docs, r = held_out(material/'corpus', 4, 2)[0], Recipe.parse('llama 400 32x1 32x4')
    t = bake(r, 1e9, 0, material/'corpus', tmp_path, docs)
    assert t.costs['flops'] == pytest.approx(1e9, rel=.05) and len(t.works) == len(docs) and 1 < t.bpb < 9 and t.costs['seconds'] > 0
    assert t.costs['inference']*t.costs['bytes']*3 == pytest.approx(t.costs['flops'], rel=1e-3)
    out = next(p for p in tmp_path.iterdir() if (p/'baked.json').exists())
    assert not (out/'model').exists() and not list(out.glob('checkpoint-*'))
    before = (out/'baked.json').stat().st_mtime_ns
    assert bake(r, 1e9, 0, material/'corpus', tmp_path, docs) == t and (out/'baked.json').stat().st_mtime_ns == before
    with pytest.raises(ValueError, match='unknown to baseline_config'): bake(Recipe.parse('llama 400 32x1 32x4 piece_width=3'), 1e9, 0, material/'corpus', tmp_path, docs)
