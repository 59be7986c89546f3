"The verdicts: exact interval logic, the choice of the run, and run folders as they are left by crashes."
import html.parser
import json
import math
import os
import shutil
from dataclasses import asdict

import pytest
from hypothesis import given, strategies as st

from hyperlex_nb import claims, verdicts as V
from hyperlex_nb.claims import CLAIMS, Part, Verdict, judges
from hyperlex_nb.verdicts import Verdicts, judge

WORDS = 'holds', 'partly', 'fails', 'not testable', 'not measured yet'
C10 = {'C10/books': dict(value=2348, low=1565, high=3131, unit='book'), 'C10/pace_needed': dict(value=9.6, low=6.4, high=12.8)}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ('HYPERLEX_RUN', 'HYPERLEX_RUNS'): monkeypatch.delenv(name, raising=False)


def make(root, name, notebook='arithmetic', metrics=None, **kw):
    path = root/name
    path.mkdir(parents=True)
    m = dict(id=name, notebook=notebook, status='finished', profile='smoke', seed=0, started='2026-01-01T00:00:00+00:00', notes=dict(corpus='made-up'))
    (path/'manifest.json').write_text(json.dumps({**m, **kw}))
    (path/'metrics.json').write_text(json.dumps(C10 if metrics is None else metrics))
    return path


def full_arithmetic(**kw):
    m = {**C10, 'C09/bytes': (14, 12, 17), 'C09/road/pg19': (15, 13, 17), 'C13/books_per_day': (8, 5.5, 11), 'C13/pages': (6e6, 4e6, 1e7), 'C13/pages_needed': (3333, 2500, 5000),
         'C12/tokens_per_page/1800/bpe': (600, 590, 610), 'C12/tokens_per_page/2500/bpe': (830, 820, 840), 'C12/bracket/1800/bytes': (3260, 3250, 3270),
         'C20/months_to_train/70B/A100x16': (31, 8, 115), 'C20/months_to_train/200B/A100x16': (89, 24, 330), 'C20/months_to_write/A100x16': (6, .5, 90),
         'C20/lines': (1.7e9, 1e9, 5e9), 'C20/h100_for_two_months/70B': (80, 22, 290), **kw}
    return {k: v if isinstance(v, dict) else dict(zip(('value', 'low', 'high'), v)) for k, v in m.items() if v is not None}


def tokens(ratios=(), **rates):
    "Metrics of the experiment `segmentation`: tokens per word, and paired ratios such as {'gpt2/morphemes': 3.2}."
    m = {f'tokens_per_word/{k.replace("_", "-")}': dict(value=v, low=v * .99, high=v * 1.01, unit='token/word', n=50, vocab=64_000) for k, v in rates.items()}
    return m | {f'ratio/{k}': dict(value=v, low=v * .995, high=v * 1.005, unit='x fewer tokens', n=50) for k, v in dict(ratios).items()}


def forms(**kw):
    "Metrics of the experiment `forms`, as its cpu run has them; None leaves one out."
    m = {'factored_ratio/all': (2.27, 2.25, 2.30, 1_468_523), 'factored_ratio/20000': (1.39, 1.34, 1.45, 20_000), 'factored_ratio/1000000': (2.23, 2.19, 2.26, 1_000_000),
         'types_ratio/all': (2.39, 2.36, 2.41), 'types_ratio/20000': (1.59, 1.52, 1.66), 'types_ratio/1000000': (2.35, 2.31, 2.38),
         'price/bits_per_word': (2.25, 2.17, 2.34), 'restored/tokens': (.9968, .9966, .997), 'positions/where_needed': (1.69, 1.687, 1.695), **kw}
    return {k: dict(zip(('value', 'low', 'high', 'n'), v)) for k, v in m.items() if v}


# interval logic

@pytest.mark.parametrize('low, high, closed, opened', [(3, 10, 'holds', 'holds'), (3.1, 9, 'holds', 'holds'), (2.99, 9, 'partly', 'partly'), (1, 2.99, 'fails', 'fails'),
                                                       (9, 11, 'partly', 'holds'), (11, 12, 'fails', 'holds'), (1, 12, 'partly', 'partly'), (3, 3, 'holds', 'holds')])
def test_whole_interval_decides(low, high, closed, opened):
    assert Part('x', low, low, high, 3, 10).verdict == closed
    assert Part('x', low, low, high, 3, 10, open=True).verdict == opened


@given(st.floats(.01, 100), st.floats(1, 3), st.floats(.01, 100), st.floats(1, 10))
def test_widening_an_interval_never_makes_a_claim_hold_or_fail(low, width, claim, range_):
    narrow = Part('x', low, low, low * width, claim, claim * range_).verdict
    wide = Part('x', low, low / 2, low * width * 2, claim, claim * range_).verdict
    assert wide == narrow or wide == 'partly'


@pytest.mark.parametrize('words, plain, baselines', [('h', 'holds', 'holds only against 0'), ('hh', 'holds', 'holds'), ('hf', 'partly', 'holds only against 0'), ('fh', 'partly', 'holds only against 1'),
                                                     ('f', 'fails', 'fails'), ('ff', 'fails', 'fails'), ('p', 'partly', 'partly'), ('pf', 'partly', 'partly'), ('hph', 'partly', 'holds only against 0, 2')])
def test_sum_up(words, plain, baselines):
    where = dict(h=(4, 5), p=(2, 4), f=(1, 2))
    parts = [Part(str(i), where[w][0], *where[w], 3, 10) for i, w in enumerate(words)]
    assert claims._sum_up(parts) == plain and claims._sum_up(parts, baselines=True) == baselines


# the claims

def test_all_23_claims_and_no_run(tmp_path):
    got = judge(tmp_path)
    assert [v.id for v in got] == list(CLAIMS) == [f'C{i:02d}' for i in range(1, 24)]
    assert {v.verdict for v in got if v.id != 'C23'} == {'not measured yet'}
    assert got['C23'].verdict == 'not testable' and 'unit' in got['C23'].note
    assert got.notes == [] and all(not v.measured and v.value is None for v in got)


def test_arithmetic_is_judged(tmp_path):
    make(tmp_path, 'a', metrics=full_arithmetic())
    got = judge(tmp_path)
    assert {k: got[k].verdict for k in ('C09', 'C10', 'C12', 'C13', 'C20')} == \
           dict(C09='holds', C10='fails', C12='holds only against bpe', C13='fails', C20='partly')
    v = got['C10']
    assert (v.value, v.low, v.high, v.claim_low, v.claim_high) == (2348, 1565, 3131, 10e3, 20e3)
    assert (v.run, v.profile, v.corpus, v.seeds) == ('a', 'smoke', 'made-up', '0')
    assert 'train 70B on 16 A100' in got['C20'].note and 'fails' in got['C20'].note and '22-290' in got['C20'].note


@pytest.mark.parametrize('kw, id, verdict', [
    ({'C09/bytes': (14, 4, 17)}, 'C09', 'partly'), ({'C09/bytes': (30, 25, 40)}, 'C09', 'fails'), ({'C10/books': (12e3, 11e3, 13e3)}, 'C10', 'holds'),
    ({'C13/pages': (1e8, 4e7, 1.2e8)}, 'C13', 'partly'), ({'C12/tokens_per_page/1800/gpt2': (1900, 1890, 1910), 'C12/tokens_per_page/2500/gpt2': (2600, 2590, 2610)}, 'C12', 'holds'),
    ({'C12/tokens_per_page/1800/gpt2': (1900, 1890, 1910), 'C12/tokens_per_page/2500/gpt2': (4000, 3990, 4010)}, 'C12', 'holds only against bpe'),
    ({'C12/tokens_per_page/1800/bpe': None}, 'C12', 'not measured yet'), ({'C12/tokens_per_page/2500/bpe': None}, 'C12', 'not measured yet'),
    ({'C20/lines': None}, 'C20', 'not measured yet'), ({'C09/bytes': dict(value=float('nan'), low=1, high=2)}, 'C09', 'not measured yet'),
    ({'C09/bytes': dict(value=14)}, 'C09', 'holds'), ({'C09/bytes': dict(value='x')}, 'C09', 'not measured yet'), ({'C09/bytes': dict(value=5, low=6, high=7)}, 'C09', 'not measured yet'),
    ({'C09/bytes': dict(value=14, low=12, high=float('inf'))}, 'C09', 'not measured yet')])
def test_each_arithmetic_verdict(tmp_path, kw, id, verdict):
    make(tmp_path, 'a', metrics=full_arithmetic(**kw))
    assert judge(tmp_path)[id].verdict == verdict


ARMS = dict(bytes=12., bpe=1.9, unigram=1.95, morphemes=2.1, morph_bpe=2., words=1.5, hyperlexemes=1.1)


def test_c01_names_its_baselines_and_says_what_was_judged(tmp_path):
    make(tmp_path, 'f', 'segmentation', tokens(**ARMS, gpt2=6.9, cl100k=3.1, o200k=1.94))
    v = judge(tmp_path)['C01']
    assert v.verdict == 'holds only against gpt2' and [p.name for p in v.parts] == ['gpt2', 'cl100k', 'unigram', 'o200k', 'bpe']
    assert all(f'{k} ' in v.note for k in ('gpt2', 'cl100k', 'o200k', 'bpe', 'unigram', 'morph-bpe', 'bytes')) and v.price == 'vocabulary 64,000'
    assert v.parts[0].low == pytest.approx(6.9 * .99 / (2.1 * 1.01)) and v.n == 50 and not any(p.name in ('bytes', 'words', 'hyperlexemes') for p in v.parts)


def test_c01_fails_against_every_baseline_where_morphemes_are_no_shorter(tmp_path):
    make(tmp_path, 'f', 'segmentation', tokens(morphemes=2.1, bpe=1.9, cl100k=3.1))
    assert judge(tmp_path)['C01'].verdict == 'fails'


def test_c01_and_c02_prefer_the_paired_ratio(tmp_path):
    make(tmp_path, 'f', 'segmentation', tokens({'gpt2/morphemes': 3.5, 'words/hyperlexemes': 2.1}, **ARMS, gpt2=6.9))
    got = judge(tmp_path)
    assert (got['C01'].value, got['C01'].low, got['C01'].high) == (3.5, 3.5 * .995, 3.5 * 1.005)
    assert got['C02'].value == 2.1 and got['C02'].verdict == 'holds only against words' and got['C02'].parts[0].n == 50


@pytest.mark.parametrize('names, why', [(dict(morphemes=2.1, bpe=1.9), 'extra peers'), (dict(bpe=1.9, gpt2=6.7), 'no tokens_per_word/morphemes'), ({}, 'no tokens_per_word/morphemes'),
                                        (dict(morphemes=0, gpt2=6.7), 'reaches 0')])
def test_c01_without_its_arm_or_peers_is_not_measured(tmp_path, names, why):
    make(tmp_path, 'f', 'segmentation', tokens(**names))
    v = judge(tmp_path)['C01']
    assert v.verdict == 'not measured yet' and why in v.note


def test_c01_and_c02_wait_for_their_experiment(tmp_path):
    make(tmp_path, 'f', 'fertility', {'fertility/bpe': dict(value=1.9), 'fertility/gpt2': dict(value=6.9)})
    got = judge(tmp_path)
    assert {got[c].verdict for c in ('C01', 'C02')} == {'not measured yet'} and {got[c].note for c in ('C01', 'C02')} == {'waits for segmentation'}


def test_c02_judges_with_against_without_and_tells_of_the_public_ones(tmp_path):
    make(tmp_path, 'f', 'segmentation', tokens({'words/hyperlexemes': 1.3, 'morphemes/hyperlexemes': 2.2, 'gpt2/hyperlexemes': 6.}, **ARMS, gpt2=6.9))
    v = judge(tmp_path)['C02']
    assert v.verdict == 'holds only against morphemes' and [p.name for p in v.parts] == ['words', 'morphemes', 'morph-bpe', 'bpe', 'unigram'] and 'public tokenizers: gpt2 6.00' in v.note
    assert (v.claim_low, v.claim_high) == (2, 5) and v.unit == 'x fewer tokens'


def test_variants_of_our_arms_are_no_public_tokenizers_and_prices_are_told(tmp_path):
    m = tokens(**ARMS, hyperlexemes_likeliest=1.2, hyperlexemes_morph=1.15, gpt2=6.9)
    m['tokens_per_word/gpt2']['vocab'] = 50_257
    make(tmp_path, 'f', 'segmentation', m | {'bpb_ratio/hyperlexemes': dict(value=1.01, low=1.005, high=1.02), 'bpb_ratio/morphemes': dict(value='?')})
    got = judge(tmp_path)
    assert 'public tokenizers: gpt2 6.27 (vocabulary 50,257)' in got['C02'].note and 'likeliest' not in got['C02'].note
    assert got['C02'].price == 'vocabulary 64,000, 1.010 [1.005, 1.020] times the bits per byte of bpe'
    assert got['C01'].verdict == 'not measured yet' and 'bpb_ratio/morphemes' in got['C01'].note


@pytest.mark.parametrize('names, verdict, why', [(dict(hyperlexemes=1.1), 'not measured yet', 'without multi-word'), (dict(words=1.5), 'not measured yet', 'no tokens_per_word/hyperlexemes'),
                                                 (dict(words=1.5, hyperlexemes=1.1), 'fails', 'none measured'), (dict(words=1.5, hyperlexemes=.1), 'holds only against words', 'words 15')])
def test_c02_needs_its_own_baseline_only(tmp_path, names, verdict, why):
    make(tmp_path, 'f', 'segmentation', tokens(**names))
    v = judge(tmp_path)['C02']
    assert v.verdict == verdict and why in v.note


def test_c04_at_every_size(tmp_path):
    make(tmp_path, 'f', 'forms', forms())
    v = judge(tmp_path)['C04']
    assert v.verdict == 'partly' and (v.value, v.n) == (2.27, 1_468_523) and [p.name for p in v.parts] == ['1,468,523 words', '1,000,000 words', '20,000 words']
    assert 'at least half from 1,000,000 words on' in v.note and '20,000 words 1.59' in v.note and '2.25 [2.17, 2.34] bits a word' in v.price and '1.69 positions' in v.price
    assert '2.27 [2.25, 2.3] (claimed 2)' in judge(tmp_path).to_text()


@pytest.mark.parametrize('kw, verdict, why', [({'factored_ratio/20000': (2.1, 2.01, 2.2, 20_000)}, 'holds', 'from 20,000 words on'), ({'price/bits_per_word': None}, 'not measured yet', 'price/bits_per_word'),
    ({'factored_ratio/all': None}, 'not measured yet', 'factored_ratio/all'), ({'types_ratio/20000': None}, 'not measured yet', 'types_ratio/20000'),
    ({f'factored_ratio/{k}': (1.5, 1.4, 1.6) for k in ('all', '1000000', '20000')}, 'fails', 'not half at the largest'), ({'factored_ratio/odd name': (1., 1., 1.)}, 'partly', 'at least half')])
def test_c04_other_runs(tmp_path, kw, verdict, why):
    make(tmp_path, 'f', 'forms', forms(**kw))
    v = judge(tmp_path)['C04']
    assert v.verdict == verdict and why in v.note


def scenes(**kw):
    m = {f'encoder/bpb/slots={k}': (x, x - .01, x + .01) for k, x in {0: 1., 1: .9, 4: .7, 8: .5, 16: .3}.items()}
    for k, x in {4: 20., 8: 10., 16: 5.}.items():
        m |= {f'encoder/times_fewer/slots={k}': (x, x - .2, x + .2), f'encoder/greedy_exact/slots={k}': (0., 0., .01), f'encoder/greedy_chrf/slots={k}': (.3, .29, .31), f'encoder/bpb_baseline/truncation={k}': (.8, .79, .81)}
    return {k: dict(zip(('value', 'low', 'high'), v)) for k, v in (m | kw).items() if v is not None}


@pytest.mark.parametrize('kw, verdict', [({}, 'partly'), ({f'encoder/times_fewer/slots={k}': (2., 1.9, 2.1) for k in (4, 8, 16)}, 'fails'),
    ({f'encoder/bpb/slots={k}': (.05, .04, .06) for k in (4, 8, 16)}, 'holds'), ({'encoder/bpb/slots=0': None}, 'not measured yet')])
def test_c05_a_rate_alone_does_not_hold(tmp_path, kw, verdict):
    make(tmp_path, 'e', 'encoder', scenes(**kw))
    assert judge(tmp_path)['C05'].verdict == verdict


def lossy(**kw):
    m = {'words_ratio/function 3': (1.44, 1.4, 1.47), 'words_ratio/function 4': (1.55, 1.52, 1.6), 'tokens_per_word/text': (2., 1.9, 2.1), 'tokens_per_word/function 3': (1.8, 1.7, 1.9), 'bits/text': (1.2, 1.1, 1.3),
         'bytes_ratio/function 3': (1.11, 1.1, 1.12), **{f'dropped/function {k}': (.12*k/3, .1, .2) for k in (3, 4)},
         **{f'{f}/{k}': (.9, .8, 1.) for f in ('form_accuracy', 'form_accuracy_as_shown') for k in ('agreement', 'lemmas', 'level 3')}}
    return {k: dict(zip(('value', 'low', 'high'), v)) for k, v in (m | kw).items() if v is not None}


def test_c03_words_and_their_price(tmp_path):
    make(tmp_path, 'l', 'ladder', lossy())
    v = judge(tmp_path)['C03']
    assert v.verdict == 'partly' and v.value == 1.44 and 'function 3: 10% of the bits dropped' in v.price and 'in bytes 1.11' in v.note
    shutil.rmtree(tmp_path/'l'); make(tmp_path, 'l', 'ladder', lossy(**{'bits/text': None}))
    assert judge(tmp_path)['C03'].verdict == 'not measured yet'


def joint(**kw):
    m = {'joint/lossless': dict(value=6.9, low=6.5, high=7.2, row='hyperlexemes', dropped=0.), 'joint/half': dict(value=9., low=8.5, high=9.4, row='level 3', dropped=.31), 'C08/bytes/level 3': dict(value=1.2, low=1.1, high=1.3, dropped=.31),
         'C19/characters per word/level 3': dict(value=6., low=5.9, high=6.1), 'C19/bits per character/level 3': dict(value=2.2, low=2.1, high=2.3, bits_per_word=13.)}
    return {k: v for k, v in (m | kw).items() if v is not None}


@pytest.mark.parametrize('kw, verdicts', [({}, 'fails fails partly'), ({'joint/half': None}, 'fails fails partly'), ({'joint/lossless': dict(value=40., low=35., high=45., row='x', dropped=0.)}, 'partly partly partly'),
    ({'joint/scene of 4 slots': dict(value=50., low=50., high=50., dropped=.7)}, 'fails fails partly'), ({'C19/characters per word/level 3': None, 'C08/bytes/level 3': None, 'joint/lossless': None, 'joint/half': None}, 'not measured yet')])
def test_c06_c08_c19_follow_from_the_joint_ledger(tmp_path, kw, verdicts):
    make(tmp_path, 'l', 'ledger', joint(**kw))
    got = [judge(tmp_path)[c].verdict for c in ('C06', 'C08', 'C19')]
    assert got == (verdicts.split() if ' yet' not in verdicts else [verdicts]*3)


def test_c16_judges_the_promise_and_reports_the_rest(tmp_path):
    m = {f'tokens_per_sentence/{k}': dict(value=x, low=x - 1, high=x + 1) for k, x in dict(bpe=25, gpt2=95).items()}
    make(tmp_path, 'f', 'fertility', m)
    v = judge(tmp_path)['C16']
    assert v.verdict == 'fails' and 'gpt2 95' in v.note and v.parts[0].name.startswith('bpe')
    shutil.rmtree(tmp_path/'f'); make(tmp_path, 'f', 'fertility', {'tokens_per_sentence/bpe': dict(value=25)})
    assert judge(tmp_path)['C16'].verdict == 'fails'  # works with no peers


# which run judges

def test_largest_profile_then_newest(tmp_path):
    for name, profile, started in (('a', 'smoke', '2027'), ('b', 'cpu', '2026-01'), ('c', 'cpu', '2026-02'), ('d', 'odd', '2028'), ('e', None, '2029')):
        make(tmp_path, name, profile=profile, started=started)
    assert judge(tmp_path)['C10'].run == 'c'
    make(tmp_path/'reference', 'ref', profile='gpu', started='2020')
    assert judge(tmp_path)['C10'].run == 'ref'


def test_a_better_ranked_run_without_the_metric_gives_way_and_is_noted(tmp_path):
    make(tmp_path, 'small'); make(tmp_path, 'large', profile='cluster', metrics={})
    got = judge(tmp_path)
    assert got['C10'].run == 'small' and any('large' in n for n in got.notes)


def test_book_stages(tmp_path):
    book = tmp_path/'book-1'
    book.mkdir(); (book/'manifest.json').write_text(json.dumps(dict(id='book-1', kind='book', status='running')))
    make(book, 'arithmetic')
    for where in (tmp_path, book): assert judge(where)['C10'].run == 'book-1/arithmetic'
    assert judge(book/'arithmetic')['C10'].run == 'arithmetic'


def test_in_a_book_run_only_the_siblings_judge(tmp_path, monkeypatch):
    make(tmp_path, 'elsewhere', profile='cluster')
    book = tmp_path/'book-1'
    book.mkdir(); (book/'manifest.json').write_text(json.dumps(dict(kind='book')))
    make(book, 'arithmetic'); me = make(book, 'verdicts', notebook='18_verdicts', status='running')
    monkeypatch.setenv('HYPERLEX_RUN', str(me)); monkeypatch.setenv('HYPERLEX_RUNS', str(tmp_path))
    got = judge()
    assert got['C10'].run == 'book-1/arithmetic' and got.notes == []
    monkeypatch.delenv('HYPERLEX_RUN')
    assert judge()['C10'].run == 'elsewhere'


def test_artifacts_inside_a_run_are_not_runs(tmp_path):
    path = make(tmp_path, 'a')
    (path/'corpus').mkdir(); (path/'corpus'/'manifest.json').write_text('{"documents": 5}')
    make(path, 'nested', profile='cluster')
    got = judge(tmp_path)
    assert got['C10'].run == 'a' and got.notes == []


# damaged folders

def cut(path): path.write_text(path.read_text()[:20])
DAMAGE = dict(cut_manifest=lambda p: cut(p/'manifest.json'), cut_metrics=lambda p: cut(p/'metrics.json'), empty_manifest=lambda p: (p/'manifest.json').write_text(''),
              list_metrics=lambda p: (p/'metrics.json').write_text('[1]'), list_manifest=lambda p: (p/'manifest.json').write_text('[]'), binary=lambda p: (p/'metrics.json').write_bytes(b'\xff\xfe\x00'),
              folder=lambda p: ((p/'metrics.json').unlink(), (p/'metrics.json').mkdir()), deep=lambda p: (p/'metrics.json').write_text('[' * 100_000),
              null=lambda p: (p/'manifest.json').write_text('null'))

@pytest.mark.parametrize('how', DAMAGE)
def test_damaged_runs_are_noted_and_passed_over(tmp_path, how):
    make(tmp_path, 'good'); DAMAGE[how](make(tmp_path, 'bad', profile='cluster'))
    got = judge(tmp_path)
    assert got['C10'].run == 'good' and any(n.startswith('bad:') for n in got.notes)


@pytest.mark.parametrize('status', ['running', 'failed', None, 5, 'scratch'])
def test_only_finished_runs_count(tmp_path, status):
    make(tmp_path, 'a', status=status)
    got = judge(tmp_path)
    assert got['C10'].verdict == 'not measured yet' and 'status' in got.notes[0]


@pytest.mark.parametrize('kw', [dict(notebook=None), dict(notebook=['x']), dict(notes='text'), dict(notes=None), dict(parameters=[1]), dict(profile=['gpu']), dict(started=5), dict(seed=None)])
def test_odd_manifests_never_crash(tmp_path, kw):
    make(tmp_path, 'a', **kw); make(tmp_path, 'b')
    assert judge(tmp_path)['C10'].verdict == 'fails'


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(['value', 'low', 'high', 'unit', 'n']), x), max_leaves=8))
def test_any_metric_value(tmp_path_factory, metric):
    root = tmp_path_factory.mktemp('r')
    make(root, 'a', metrics={k: metric for k in full_arithmetic()}); make(root, 'f', 'segmentation', metrics={k: metric for k in tokens({'gpt2/morphemes': 3}, **ARMS, gpt2=2)})
    make(root, 'g', 'forms', metrics={k: metric for k in forms()})
    got = judge(root)
    assert all(v.verdict in WORDS or v.verdict.startswith('holds only against') for v in got)
    got.to_text(), got.to_markdown(), got.to_html()


def test_a_judge_that_breaks_is_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(claims._JUDGES, 'C10', lambda run: 1 / 0)
    make(tmp_path, 'a')
    v = judge(tmp_path)['C10']
    assert v.verdict == 'not measured yet' and 'ZeroDivisionError' in v.note


def test_missing_folder_file_and_link_loop(tmp_path):
    (tmp_path/'x').write_text('a file')
    os.symlink(tmp_path, tmp_path/'loop')
    for where in (tmp_path/'nowhere', tmp_path/'x', tmp_path): assert len(judge(where)) == 23


# adding a judge, and the tables

def test_a_new_judge(tmp_path, monkeypatch):
    own = dict(claims._JUDGES)
    for module in (claims, V): monkeypatch.setattr(module, '_JUDGES', own)
    @judges('C11')
    def _(run): return dict(parts=[run.part('gain', (3, 10), open=True)], price='none')
    make(tmp_path, 'h', 'selection', {'gain': dict(value=1.3, low=1.2, high=1.4)})
    v = judge(tmp_path)['C11']
    assert v.verdict == 'fails' and v.price == 'none'
    with pytest.raises(ValueError, match="id='C24': expected one of C01"): judges('C24')


def test_text_has_every_claim_and_number(tmp_path):
    make(tmp_path, 'a', metrics=full_arithmetic())
    text = judge(tmp_path).to_text()
    assert all(id in text for id in CLAIMS) and '2,348 [1,565, 3,131] book (claimed 10,000-20,000)' in text and 'run a' in text


class _Tags(html.parser.HTMLParser):
    def __init__(self): super().__init__(); self.tags = []
    def handle_starttag(self, tag, attrs): self.tags.append(tag)


def test_tables_survive_hostile_names(tmp_path):
    evil = '<script>alert(1)</script>|\n| x |\x1b[31m `'
    make(tmp_path, 'a', notes=dict(corpus=evil), seed=evil, profile='smoke', metrics=full_arithmetic(**{'C10/books': dict(value=2348, low=1565, high=3131, unit=evil)}))
    got = judge(tmp_path)
    parser = _Tags(); parser.feed(got.to_html())
    assert set(parser.tags) <= {'table', 'tr', 'th', 'td', 'p', 'ul', 'li'} and parser.tags.count('tr') == 24
    lines = got.to_markdown().split('\n')
    assert len(lines) == 25 and len({l.replace('\\|', '').count('|') for l in lines}) == 1 and '<script' not in got.to_markdown()
    assert '\x1b' not in got.to_text()
    json.loads(got.to_json())


def test_figure_with_and_without_measurements(tmp_path):
    import matplotlib; matplotlib.use('agg')
    assert 'Nothing measured' in judge(tmp_path).plot().axes[0].get_title()
    make(tmp_path, 'a', metrics=full_arithmetic())
    ax = judge(tmp_path).plot().axes[0]
    assert ax.get_xscale() == 'log' and len(ax.get_yticks()) == 8
    ax.figure.canvas.draw()
    shutil.rmtree(tmp_path/'a'); make(tmp_path, 'f', 'forms', forms())
    ax = judge(tmp_path).plot().axes[0]
    assert len(ax.get_yticks()) == 3 and all(bar.get_width() > 0 for bar in ax.patches)  # a claim of one number is a thin line
    ax.figure.canvas.draw()


def test_verdict_is_plain_data(tmp_path):
    make(tmp_path, 'a')
    v = judge(tmp_path)['C10']
    assert asdict(v)['parts'][0]['value'] == 2348 and hash(v) and v == Verdict(**{k: getattr(v, k) for k in ('id', 'text', 'verdict', 'parts', 'run', 'profile', 'corpus', 'seeds', 'price', 'note')})
    with pytest.raises(AttributeError): v.nonsense
    assert isinstance(judge(tmp_path), Verdicts) and math.isclose(v.value, 2348)


# the planner's claims

EQUIVALENCE = {'multiplier': (1.4, 1.2, 1.7), 'equals/70B': (83, 76, 92), 'equals/30B': (36, 33, 40), 'needed/70B=300B': (17, 14, 21), 'needed/70B_as_405B': (60, 32, 98),
               'C07/30B_flops_over_gpt3': (.64, .46, .9), 'C07/70B_share_of_405B': (.02, .01, .05), 'C17/attention/gpt2': (35, 32, 39), 'C17/attention/cl100k': (6.9, 6.2, 7.6),
               'C17/whole': (5.2, 4.8, 5.5), 'C17/cache_200K': (65.5, 65.5, 65.5), 'C18/token': (3.5e11, 1.4e11, 8e11), 'C18/hypertoken': (1.4e11, 6e10, 4e11), 'C18/byte/token': (3.7e10, 3.5e10, 4e10), 'C18/byte/hypertoken': (1.4e10, 1.3e10, 1.5e10)}

def equivalence(tmp_path, **other):
    rows = EQUIVALENCE | {k.replace('__', '/'): v for k, v in other.items()}
    make(tmp_path, 'e', 'equivalence', {k: dict(value=v[0], low=v[1], high=v[2], unit='x') for k, v in rows.items() if v})
    return judge(tmp_path)


def test_the_planners_claims(tmp_path):
    got = equivalence(tmp_path)
    assert [got[k].verdict for k in ('C07', 'C15', 'C17', 'C18')] == ['partly', 'fails', 'holds only against gpt2', 'fails']
    assert '70B as 83B [76, 92]' in got['C15'].note and '17 [14, 21]' in got['C15'].note and 'Llama 3.1 405B stands in' in got['C07'].note


@pytest.mark.parametrize('name, claim', [('equals/70B', 'C15'), ('multiplier', 'C07'), ('C17/whole', 'C17'), ('C18/token', 'C18')])
def test_a_planners_claim_without_its_number_is_not_judged(tmp_path, name, claim):
    got = equivalence(tmp_path, **{name.replace('/', '__'): None})
    assert got[claim].verdict == 'not measured yet' and name in got[claim].note


def test_a_large_multiplier_would_hold(tmp_path):
    assert equivalence(tmp_path, equals__70B=(500, 400, 700))['C15'].verdict == 'holds'
    assert equivalence(tmp_path/'b', equals__70B=(280, 200, 400))['C15'].verdict == 'partly'
