"Minimal pairs: sums of bits equal the measure of the book, means go over paradigms, bad files are named."
import json
import numpy as np, pytest
from hyperlex_nb.chunks import train_chunks
from hyperlex_nb.core import HyperCore, core_config
from hyperlex_nb.evaluate import surprise
from hyperlex_nb.model import baseline_config, build
from hyperlex_nb.pairs import Pairs, minimal_pairs, read_pairs, sentence_bits
from hyperlex_nb.tokenizer import train_tokenizer

TEXTS = ['Мама мыла раму, а потом читала «Войну и мир».', 'Книга лежала на столе.', 'Книга лежал на столе.', 'Да!', '🙂 e\u0301 \u200f«שלום»']


@pytest.fixture(scope='module', params=['llama', 'core'])
def pair(request):
    if request.param == 'llama':
        tok = train_tokenizer(iter(TEXTS*10), 400)
        return build(baseline_config(len(tok), 32, 2, 128), 0).eval(), tok
    tok = train_chunks(iter(TEXTS*10), 600)
    return HyperCore.build(core_config(tok, 32, 1, context=128, word_rows=64, prefix_rows=64), 0).eval(), tok


def test_bits_of_many_equal_bits_of_one(pair):
    model, tok = pair
    want = [surprise(model, tok, t).sum() for t in TEXTS]
    for batch in 1, 3, 64: assert np.allclose(sentence_bits(model, tok, TEXTS, batch=batch), want, rtol=5e-3)
    assert len(sentence_bits(model, tok, [])) == 0


def test_a_sentence_longer_than_the_context_is_refused(pair):
    with pytest.raises(ValueError, match='the model reads 128'): sentence_bits(*pair, ['слово '*300])


def test_ties_count_a_half_and_the_side_decides(pair):
    p = dict(paradigm='a', phenomenon='b', good=TEXTS[1], bad=TEXTS[2])
    right, = (s for _, _, s in minimal_pairs(*pair, [p]).rows)
    wrong, = (s for _, _, s in minimal_pairs(*pair, [p | dict(good=p['bad'], bad=p['good'])]).rows)
    assert {right, wrong} == {0., 1.} and minimal_pairs(*pair, [p | dict(bad=p['good'])]).rows[0][2] == .5
    with pytest.raises(ValueError, match='no pairs'): minimal_pairs(*pair, [])


def test_means_go_over_paradigms_and_intervals_shrink():
    rows = [('a', 'x', 1.)]*90 + [('b', 'x', 0.)]*10 + [('c', 'y', s) for s in (1., 0.)*50]
    p = Pairs(rows)
    assert p.by()['x'][0] == .5 and p.by('all')['all'][0] == .5 and p.by()['x'][3] == 100
    v, low, high, n = p.by('paradigm')['c']
    assert (v, n) == (.5, 100) and .38 < low < .44 and .56 < high < .62, 'about 1.96 sqrt(.25/100)'
    with pytest.raises(ValueError, match='expected phenomenon'): p.by('x')


def test_files(tmp_path):
    good = dict(good='да', bad='ад', paradigm='a', phenomenon='b')
    f = tmp_path/'p.jsonl'
    f.write_text('\n'.join(json.dumps(good | dict(paradigm=p)) for p in 'aabbb'), encoding='utf-8')
    assert len(read_pairs(f)) == 5 and len(read_pairs(f, each=2)) == 4
    for text, says in ('{"good": 1}', 'row 1: good'), ('[1]', 'row 1: good'), ('{', 'JSON lines'), ('', 'no pairs'):
        f.write_text(text)
        with pytest.raises(ValueError, match=says): read_pairs(f)
    f.write_bytes(b'\xff\xfe{}')
    with pytest.raises(ValueError, match='UTF-8'): read_pairs(f)
    (tmp_path/'p.parquet').write_bytes(b'PAR1 cut')
    with pytest.raises(ValueError, match='no whole parquet file'): read_pairs(tmp_path/'p.parquet')


def test_the_published_set(shared):
    pairs = read_pairs(shared/'bench'/'rublimp_dev.parquet', each=2)
    assert len(pairs) == 90 and len({p['paradigm'] for p in pairs}) == 45 and len({p['phenomenon'] for p in pairs}) == 12
