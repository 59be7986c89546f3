"""The ablation at equal vocabulary: what it logs, what it refuses, and that an interrupted run keeps what it has."""
import json
import pytest
from hyperlex_nb.runs import Run, execute

TINY = dict(arms='bpe,morph-bpe,words', models='bpe,words', vocab_size=1100, megabytes=.2, dev_megabytes=.05, gold=30, width=32, layers=1, context=32,
            batch=8, micro=8, steps=12, save_every=4, works=4, limit=500, rounds=1)


@pytest.fixture(scope='module')
def runs(material, root, tmp_path_factory):
    "A finished run with equal bytes, at the smallest sizes; and how to make more"
    folder = tmp_path_factory.mktemp('runs')
    def make(name, **kw): return execute(root/'nbs'/'experiments'/'segmentation.ipynb', TINY | dict(corpus=str(material/'corpus')) | kw, runs_dir=folder, name=name)
    run = make('first', budget='bytes')
    assert run.status == 'finished', run.manifest['error']
    return make, run


def test_columns(runs):
    m = runs[1].metrics
    for column in 'tokens_per_word bytes_per_token words_in_2 boundary_f1 renyi flops_per_byte'.split():
        for arm in TINY['arms'].split(','): assert m[f'{column}/{arm}']['low'] <= m[f'{column}/{arm}']['value'] <= m[f'{column}/{arm}']['high']
    assert all(0 < m[f'vocab_used/{a}']['value'] <= 1 and m[f'encode_mb_s/{a}']['value'] > 0 and m[f'vocab/{a}']['value'] == 1100 for a in TINY['arms'].split(','))
    assert m['ratio/bpe/words']['value'] == pytest.approx(m['tokens_per_word/bpe']['value']/m['tokens_per_word/words']['value'])
    assert m['flops_ratio/words']['value'] == pytest.approx(m['flops_per_byte/words']['value']/m['flops_per_byte/bpe']['value'])
    assert m['boundary_f1/morph-bpe']['value'] > m['boundary_f1/bpe']['value']
    assert {'bpb/bpe', 'bpb/words', 'difference/words_vs_bpe', 'bpb_ratio/words'} <= set(m) and 'bpb/morph-bpe' not in m


def test_budgets_are_equal(runs):
    make, run = runs
    m = run.metrics
    assert m['train_bytes/words']['value'] == pytest.approx(m['train_bytes/bpe']['value'], rel=.1)
    flops = make('flops', like=str(run.path), arms='bytes,bpe,words', models='bytes,bpe')
    assert flops.status == 'finished', flops.manifest['error']
    f = flops.metrics
    assert f['train_flops/bytes']['value'] == pytest.approx(f['train_flops/bpe']['value'], rel=.1) and f['train_bytes/bytes']['value'] < f['train_bytes/bpe']['value']
    assert f['tokens_per_word/words'] == m['tokens_per_word/words']                       # the tokenizers of the first run
    assert f['bpb/bpe']['value'] == m['bpb/bpe']['value']                                 # and bpe spends the same in both budgets


def test_resumed_run_keeps_what_it_has(runs):
    run, before = runs[1], dict(runs[1].metrics)
    import shutil
    shutil.rmtree(run.path/'models'/'words')
    kept = {p: p.stat().st_mtime_ns for p in [*run.path.glob('tokenizers/*/tokenizer.json'), run.path/'models'/'bpe'/'model'/'model.safetensors', run.path/'models'/'bpe'/'bpb.json']}
    run._update(status='failed')
    again = execute(resume=run.id, runs_dir=run.path.parent)
    assert again.status == 'finished' and kept == {p: p.stat().st_mtime_ns for p in kept}
    same = lambda m: {k: v for k, v in m.items() if not k.startswith('encode_mb_s')}
    a, b = same(again.metrics), same(before)
    assert {k: (a.get(k), b.get(k)) for k in {*a, *b} if a.get(k) != b.get(k)} == {}


def test_refusals(runs):
    make, run = runs
    for name, wrong, words in (('a', dict(arms='bpe,wrods'), 'wrods'), ('b', dict(budget='steps'), 'budget'), 
                               ('c', dict(like=str(run.path/'models')), 'tokenizers')):
        assert words in make(name, **wrong).manifest['error']
