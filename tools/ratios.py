"""Write hyperlex_nb/assets/ratios.json, the measured ratios of Russian text, from the reference runs; --check only compares."""
import json, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT/'hyperlex_nb'/'assets'/'ratios.json'
TOKENIZERS = 'gpt2 cl100k qwen llama3 tekken o200k gemma3 llama4 bpe-64000 bpe-128000 hyperlexemes-64000 hyperlexemes-128000'.split()

def ratios():
    "{corpus: {unit: {value, low, high, n, run, metric}}}, each for a word, where its key names no other"
    out = {}
    for corpus, run in (('opencorpora', 'cpu-fertility'), ('classics', 'cpu-fertility-classics')):
        wanted = {'byte': (run, 'fertility/byt5'), 'byte/page': (run, 'tokens_per_page/byt5'), 'word/sentence': (run, 'words_per_sentence')} | \
            {name: ('cpu-hyperlexemes', f'tokens_per_word/{name}/{corpus}') for name in TOKENIZERS}
        if corpus == 'opencorpora': wanted['bit/byte'] = ('cpu-pretrain-seed0', 'bpb/muon')
        rows = out[corpus] = {}
        for unit, (run_id, metric) in wanted.items():
            m = json.loads((ROOT/'runs'/'reference'/run_id/'metrics.json').read_text(encoding='utf-8'))[metric]
            rows[unit] = {k: float(f'{m[k]:.6g}') for k in ('value', 'low', 'high')} | dict(n=m.get('n'), run=run_id, metric=metric)
    return json.dumps(out, indent=1) + '\n'

if __name__ == '__main__':
    if '--check' not in sys.argv: TARGET.write_text(ratios(), encoding='utf-8')
    elif TARGET.read_text(encoding='utf-8') != ratios(): sys.exit('ratios.json is not what the reference runs say: run python tools/ratios.py')
