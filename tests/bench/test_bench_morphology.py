"Speed of segmentation: `pytest tests/bench -k morphology --benchmark-only`. Real words where the demo corpus is installed, else made-up ones."
import random, re
from itertools import islice
import pytest
from hyperlex_nb.morphology import Segmenter

@pytest.fixture(scope='module')
def words():
    "20,000 distinct words"
    try:
        from hyperlex_nb.sources import documents
        found = {w for d in islice(documents('opencorpora'), 400) for w in re.findall('[а-яё]{2,}', d['text'].lower())}
    except ModuleNotFoundError: found = set()
    rng = random.Random(0)
    while len(found) < 20_000: found.add(''.join(rng.choices('оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъ', range(32, 0, -1), k=rng.randint(4, 14))))
    return rng.sample(sorted(found), 20_000)

def test_distinct_words(benchmark, words):
    seg = Segmenter(cache=0)
    benchmark.extra_info['words'] = len(words)
    benchmark.pedantic(seg.segment, (words,), rounds=5, warmup_rounds=1)

def test_known_words(benchmark, words):
    seg = Segmenter()
    seg.segment(words)
    benchmark.extra_info['words'] = len(words)
    benchmark.pedantic(seg.segment, (words,), rounds=5)

def test_one_word_at_a_time(benchmark, words):
    "What batching saves"
    seg = Segmenter(cache=0)
    benchmark.extra_info['words'] = 200
    benchmark.pedantic(lambda: [seg.segment([w]) for w in words[:200]], rounds=2)

def test_loading(benchmark): benchmark.pedantic(Segmenter, rounds=3)
