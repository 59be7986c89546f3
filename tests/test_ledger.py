"The ledger: rates by hand, paired savings, no saving without a price, metrics that verdicts can read."
import json
from pathlib import Path
import matplotlib; matplotlib.use('Agg')
import matplotlib.pyplot as plt
import pytest
from hyperlex_nb.ledger import PAGE, Ledger
from hyperlex_nb.tokenizer import train_tokenizer

DOCS = [dict(text=t*k, work=w) for w, t, k in (('а', 'Он знал. Она молчала! ', 20), ('б', 'Ночь; улица, фонарь, аптека.\n', 10), ('а', 'Снег. ', 5), ('в', 'Бессознательное знание приходит ночью… ', 8))]

@pytest.fixture
def led(): return Ledger(DOCS).add('bytes', lambda t: len(t.encode()), 256).add('letters', len).add('words', lambda t: t.split())

def test_rates_by_hand(led):
    text = ''.join(d['text'] for d in DOCS)
    t = led.table()
    assert t.loc['letters', 'positions per word'] == pytest.approx(len(text)/len(text.split()))
    assert t.loc['letters', 'bytes per position'] == pytest.approx(len(text.encode())/len(text))
    assert t.loc['letters', 'positions per page'] == pytest.approx(PAGE)
    assert t.loc['words', 'positions per word'] == 1
    assert list(t.index) == ['bytes', 'letters', 'words'], 'dearest first'
    assert t.loc['bytes', 'vocabulary'] == 256 and t['vocabulary'].isna().sum() == 2

def test_saving_is_the_ratio_of_positions(led):
    v, lo, hi = led.saving('words', 'letters')
    assert lo <= v <= hi and v == pytest.approx(led.table().loc['letters', 'positions per word'])
    assert led.saving('letters', 'letters') == (1, 1, 1)
    assert led.saving('letters', 'words')[0] == pytest.approx(1/v)

def test_a_lossy_step_without_its_price_has_no_saving(led):
    led.add('none', lambda t: 1, lossless=False)
    with pytest.raises(ValueError, match="'none' loses something and has no price"): led.saving('none', 'letters')
    t = led.table('letters')
    assert t.isna().loc['none', 'times fewer than letters'] and t.loc['none', 'positions per word'] > 0
    led.add('paid', lambda t: 1, lossless=False, kept=(.1, .1, .1), dropped=(.9, .8, 1.))
    t = led.table('letters')
    assert t.loc['paid', 'times fewer than letters'] > 1 and t.loc['paid', 'bits in all'] == pytest.approx(1.)
    assert led.saving('paid', 'letters')[0] > 1

def test_later_columns(led):
    led.add('model', len, kept=(1.2, 1.1, 1.3), **{'FLOPs per byte': (5e6, 4e6, 6e6)})
    t = led.table()
    assert t.loc['model', 'bits in all'] == 1.2 and t.loc['model', 'FLOPs per byte'] == 5e6 and t.isna().loc['words', 'FLOPs per byte']

def test_errors(led):
    with pytest.raises(ValueError, match="'words' is in the ledger already"): led.add('words', len)
    with pytest.raises(ValueError, match='lossless, so it drops nothing'): led.add('x', len, dropped=(1, 1, 1))
    with pytest.raises(KeyError, match="no row 'y'; there are bytes, letters, words"): led.saving('y', 'words')
    with pytest.raises(KeyError, match="no row 'y'"): led.table('y')
    with pytest.raises(ValueError, match='no words'): Ledger([]).add('x', len)

class Fake:
    def __init__(self): self.metrics = {}
    def log(self, name, value, unit='', low=None, high=None, n=None, **kw): self.metrics[name] = dict(value=value, unit=unit, low=low, high=high, n=n, **kw)

def test_metrics(led):
    tok = train_tokenizer([d['text'] for d in DOCS], 300)
    led.add('bpe', tok.encode, len(tok))
    run = Fake()
    led.log(run, own=['bpe'], corpus='test')
    assert {f'{m}/{r}' for m in ('fertility', 'bytes_per_token', 'tokens_per_sentence', 'tokens_per_page') for r in led.rows} | {f'ratio/bpe_vs_{r}' for r in ('bytes', 'letters', 'words')} == set(run.metrics)
    for m in run.metrics.values(): assert m['low'] <= m['value'] <= m['high'] and m['n'] == 3 and m['corpus'] == 'test'
    assert run.metrics['fertility/bpe']['vocab'] == len(tok) and run.metrics['ratio/bpe_vs_words']['baseline'] == 'words'
    f = {k: run.metrics[f'fertility/{k}']['value'] for k in ('bpe', 'bytes')}
    assert run.metrics['ratio/bpe_vs_bytes']['value'] == pytest.approx(f['bytes']/f['bpe'])

def test_metrics_are_json_of_plain_numbers(led, tmp_path):
    from hyperlex_nb.runs import Run
    (tmp_path/'manifest.json').write_text(json.dumps(dict(notebook='x', status='finished')))
    led.log(Run(tmp_path))
    assert json.loads((tmp_path/'metrics.json').read_text())['fertility/words']['value'] == 1

def test_bars(led):
    fig, ax = plt.subplots()
    led.bars(ax, own=['words'])
    assert [t.get_text() for t in ax.get_yticklabels()] == ['words', 'letters', 'bytes'] and 'positions per word' in ax.get_xlabel()
    led.bars(ax, 'positions per page', names=['words'], log=True)
    plt.close(fig)
