"Whole corpora to telegrams and back: exact, resumable, the same bytes however often it was killed."
import errno, hashlib, importlib.util, json, os, signal, subprocess, sys, time
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, pytest
from hypothesis import given, settings, strategies as st
from hyperlex_nb import codec, compress as C
from hyperlex_nb.compress import compress, pack, restore, row, telegraph_step, unpack
from hyperlex_nb.grammar import STAGES, Telegraph
from hyperlex_nb.sources import documents

SAY = 'Она сказала, что не приехала бы в большой белый дом, если бы не дети и собака старая.'
HOSTILE = ['', ' ', '\n', '\t', '\\', '\\n', 'а\\tи\\nв', '#3,5', '~', '=и', 'и', 'А', 'И.', '  Он!  ', 'не не и и в', 'и =в и', 'дом ~и в', 'ÄÖÜ и ß', 'İi и ǅ ŉ', 'в 3,5 раза — «и»…', 'табл\t|1|\nи', 'Кто-то ИЗ-ЗА ё\u0301 е\u0308', 'ДОМА и дОМа',
           'и\n\n\nи', 'звѣрь и міръ', 'a\u200bи\u00adи', '👩‍👩‍👧 и 👍🏽', 'if (x) { y = "и"; }', '| и | в |\n|---|---|', 'ж'*200 + ' и ' + 'о'*70, '\u0301и', 'по-русски-и-по-английски-и-всё', '\r\nи\r\n', 'и\x00в', 'и house и house, и дом', 'Hello, дом\nи x=1; y=2;\nи всё',
           'И вот\tон\\пришла домой', SAY, SAY.upper(), SAY + '\n' + SAY]
SETTINGS = [dict(level=n) for n in (1, 2, 3, 4)] + [dict(level=4, stages=[s]) for s in STAGES] + [dict(level=1, stages=[])]

@pytest.mark.parametrize('kw', SETTINGS, ids=str)
def test_a_batch_comes_back(kw):
    packed = pack(dict(text=HOSTILE), **kw)
    assert unpack(packed)['text'] == HOSTILE
    assert packed['text'] == list(Telegraph(**kw)(HOSTILE))

@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(alphabet=st.sampled_from('аеёинАЕИН  .,—-«»\n\t\\=~#^!01ñ\u0301x'), max_size=50), max_size=4), st.sampled_from(SETTINGS))
def test_any_string_comes_back(texts, kw): assert unpack(pack(dict(text=texts), **kw))['text'] == texts

@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('абвАБÄßİ-ё^!=0'), min_size=1, max_size=9), st.text(st.sampled_from('абвАБÄßİ-ё'), min_size=1, max_size=9))
def test_any_form_is_made_of_any_word(shown, form): assert codec._applied(shown, codec._code(shown, form)) == form or shown == form

def test_what_is_the_same_costs_nothing():
    assert pack(dict(text=['Дом стоит на горе.']), stages=[])['edits'] == ['']
    long = pack(dict(text=['дом ' * 1000 + 'и дом']), level=1)['edits'][0]
    assert long.strip('\n') == 'и' and len(long) <= 1002

def test_edits_do_not_need_the_dictionary(monkeypatch):
    packed = pack(dict(text=[SAY]), level=3)
    import hyperlex_nb.forms as F
    monkeypatch.setattr(F, '_morph', lambda: pytest.fail('the dictionary was asked'))
    assert unpack(packed)['text'] == [SAY]

@pytest.mark.parametrize('change', [dict(text=['дом']), dict(edits=['']), dict(edits=['\n'*99]), dict(edits=['#1,2,x']), dict(edits=['~']), dict(hash=['0'*16])], ids=str)
def test_what_was_changed_is_noticed(change):
    with pytest.raises(ValueError, match='row 0 .*do not belong together'): unpack(pack(dict(text=[SAY]), level=3) | change)

def test_a_long_paragraph():
    text = 'и большой дом на горе, ' * 250_000 # 10 MB
    packed = pack(dict(text=[text]), level=3)
    assert unpack(packed)['text'] == [text] and len(packed['text'][0]) < len(text)

# --- folders

def docs(n=60): return [dict(text=f'{SAY} Документ номер {i}, и в нём {i % 7} слов. ' * (3 + i % 5) + HOSTILE[i % len(HOSTILE)], work=f'w{i % 20}', author='', title=f't{i}') for i in range(n)]
FAST = dict(sample=0, shard=6000)

@pytest.fixture(autouse=True)
def small_blocks(monkeypatch): monkeypatch.setattr(C, '_BLOCK', 2000)

def bytes_of(folder): return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}

@pytest.mark.parametrize('procs', [1, 2])
def test_there_and_back(tmp_path, procs):
    m = compress(docs(), tmp_path/'c', level=3, procs=procs, **FAST)
    assert m['status'] == 'finished' and m['total']['documents'] == 60 and len(m['shards']) > 2
    assert restore(tmp_path/'c', tmp_path/'b') == dict(exact=True, documents=60, right=60)
    back = [r for p in sorted((tmp_path/'b'/'data').glob('*')) for r in pq.read_table(p).to_pylist()]
    assert back == docs()
    assert json.loads((tmp_path/'b'/'manifest.json').read_text('utf-8'))['exact'] is True

def test_words_read_in_their_sentence(tmp_path):
    if not all(map(importlib.util.find_spec, ('natasha', 'slovnet', 'navec'))): pytest.skip('slovnet, navec or the data of natasha are not installed')
    both = [d | dict(text='Старые ели стояли. ' + d['text']) for d in docs(24)]
    for procs in (1, 2): m = compress(both, tmp_path/f'c{procs}', level=3, context=True, procs=procs, **FAST)
    assert bytes_of(tmp_path/'c1') == bytes_of(tmp_path/'c2') and 'slovnet' in m['settings']['versions']
    with pytest.raises(ValueError, match='made with context=True, not False'): compress(both, tmp_path/'c1', level=3, **FAST)
    compress(both, tmp_path/'c0', level=3, **FAST)
    def first(folder): return pq.read_table(min((folder/'data').glob('*')))['text'][0].as_py()
    assert 'есть' in first(tmp_path/'c0') and 'ель' in first(tmp_path/'c1'), 'the sentence changed no reading'
    assert restore(tmp_path/'c1', tmp_path/'b') == dict(exact=True, documents=24, right=24)

def test_processes_do_not_change_a_byte(tmp_path):
    for procs in (1, 2): compress(docs(), tmp_path/f'c{procs}', procs=procs, **FAST)
    assert bytes_of(tmp_path/'c1') == bytes_of(tmp_path/'c2')

class Stop(Exception): pass
def stopping(at):
    for i, d in enumerate(docs()):
        if i == at: raise Stop
        yield d

@pytest.mark.parametrize('at', [1, 20, 45, 59])
def test_stopped_and_resumed_is_the_same(tmp_path, at):
    kw = dict(level=2, sample=8000, shard=6000, tokenizer='')
    compress(docs(), tmp_path/'whole', **kw)
    with pytest.raises(Stop): compress(stopping(at), tmp_path/'c', **kw)
    assert not (tmp_path/'c').exists(), 'nobody meets half a corpus'
    compress(docs(), tmp_path/'c', procs=2, **kw)
    assert bytes_of(tmp_path/'c') == bytes_of(tmp_path/'whole') and not list(tmp_path.glob('.*'))

def test_killed_and_resumed_is_the_same(tmp_path):
    (tmp_path/'in.jsonl').write_text(''.join(json.dumps(d, ensure_ascii=False) + '\n' for d in docs(400)), encoding='utf-8')
    code = "import sys; from hyperlex_nb import compress as C; C._BLOCK = 2000; C.compress(sys.argv[1], sys.argv[2], procs=2, sample=0, shard=6000)"
    child = subprocess.Popen([sys.executable, '-c', code, str(tmp_path/'in.jsonl'), str(tmp_path/'c')], stderr=subprocess.DEVNULL, start_new_session=True)
    while not (tmp_path/'.c.partial'/'data'/'00002.parquet').exists(): assert child.poll() is None; time.sleep(.005)
    os.killpg(child.pid, signal.SIGKILL); child.wait()
    assert not (tmp_path/'c').exists()
    done = bytes_of(tmp_path/'.c.partial'/'data')
    m = compress(tmp_path/'in.jsonl', tmp_path/'c', **FAST)
    compress(tmp_path/'in.jsonl', tmp_path/'whole', **FAST)
    assert bytes_of(tmp_path/'c') == bytes_of(tmp_path/'whole') and m['total']['documents'] == 400 and len(done) >= 3

def test_a_killed_parent_takes_its_workers_along(tmp_path):
    (tmp_path/'in.jsonl').write_text(''.join(json.dumps(d, ensure_ascii=False) + '\n' for d in docs(900)), encoding='utf-8')
    import psutil
    code = "import sys; from hyperlex_nb import compress as C; C._BLOCK = 2000; C.compress(sys.argv[1], sys.argv[2], procs=2, sample=0, shard=6000)"
    child = subprocess.Popen([sys.executable, '-c', code, str(tmp_path/'in.jsonl'), str(tmp_path/'c')], stderr=subprocess.DEVNULL)
    while not (tmp_path/'.c.partial'/'data'/'00001.parquet').exists(): assert child.poll() is None; time.sleep(.005)
    workers = psutil.Process(child.pid).children(recursive=True)
    child.kill(); child.wait()
    compress(tmp_path/'in.jsonl', tmp_path/'c', **FAST) # the lock is free
    assert workers and not psutil.wait_procs(workers, timeout=10)[1]

def test_a_killed_worker_is_one_clear_error(tmp_path, monkeypatch):
    whole, me = C.pack, os.getpid()
    def dies(batch, *a):
        if os.getpid() != me and 't50' in batch['title']: os.kill(os.getpid(), signal.SIGKILL)
        return whole(batch, *a)
    monkeypatch.setattr(C, 'pack', dies)
    with pytest.raises(ChildProcessError, match='a worker process was killed.*same command goes on after'): compress(docs(), tmp_path/'c', procs=2, **FAST)
    monkeypatch.undo()
    monkeypatch.setattr(C, '_BLOCK', 2000)
    compress(docs(), tmp_path/'c', **FAST); compress(docs(), tmp_path/'whole', **FAST)
    assert bytes_of(tmp_path/'c') == bytes_of(tmp_path/'whole')

def test_other_settings_and_other_inputs_are_refused(tmp_path):
    with pytest.raises(Stop): compress(stopping(45), tmp_path/'c', **FAST)
    with pytest.raises(ValueError, match='c was begun with level=2, not 3'): compress(docs(), tmp_path/'c', level=3, **FAST)
    changed = docs(); changed[0]['text'] += '!'
    with pytest.raises(ValueError, match='not what it was when data/00000.parquet was written'): compress(changed, tmp_path/'c', **FAST)
    compress(docs(), tmp_path/'c', **FAST)
    before = bytes_of(tmp_path/'c')
    assert compress(docs(), tmp_path/'c', **FAST)['status'] == 'finished', 'a finished folder is left as it is'
    with pytest.raises(ValueError, match='c was made with edits=True, not False'): compress(docs(), tmp_path/'c', edits=False, **FAST)
    for other in changed, docs()[:50], docs() + docs()[:1]:
        with pytest.raises(ValueError, match='not what it was'): compress(other, tmp_path/'c', **FAST)
    assert bytes_of(tmp_path/'c') == before
    (tmp_path/'mine').mkdir(); (tmp_path/'mine'/'thesis.txt').write_text('x')
    with pytest.raises(ValueError, match='mine is there already and holds no telegrams'): compress(docs(), tmp_path/'mine', **FAST)

def test_two_writers_do_not_meet(tmp_path):
    (tmp_path/'.c.partial').mkdir()
    from hyperlex_nb.runs import _lock
    with _lock(tmp_path/'.c.partial'/'.lock'), pytest.raises(ValueError, match='c is being written by another process'): compress(docs(), tmp_path/'c', **FAST)

def test_a_full_disk_is_one_error_and_can_be_mended(small_disk, tmp_path):
    rng = np.random.default_rng(0)
    many = [dict(text=' '.join(''.join(map(chr, rng.integers(0x430, 0x450, 8))) for _ in range(600))) for _ in range(400)]
    with pytest.raises(OSError, match='the disk is full: free some space') as e: compress(many, small_disk/'c', sample=0, shard=100_000)
    assert e.value.errno == errno.ENOSPC and not (small_disk/'c').exists()

def test_bad_lines_are_named_or_passed_over(tmp_path):
    lines = [json.dumps(d, ensure_ascii=False) for d in docs(6)]
    lines[2] = '{"text": "cut'; lines[4] = '{"text": "\\ud800 дом", "work": "odd"}'
    (tmp_path/'in.jsonl').write_text('\n'.join(lines), encoding='utf-8')
    with pytest.raises(ValueError, match='in.jsonl line 3: not JSON'): compress(tmp_path/'in.jsonl', tmp_path/'c', **FAST)
    m = compress(tmp_path/'in.jsonl', tmp_path/'c2', skip_bad=True, **FAST)
    assert m['total']['documents'] == 4 and m['skipped'] == 2 and any('line 3' in s for s in m['skipped_first']) and any('surrogate' in s for s in m['skipped_first'])
    lines = lines[:2]*20 + lines
    (tmp_path/'late.jsonl').write_text('\n'.join(lines), encoding='utf-8')
    with pytest.raises(ValueError, match='late.jsonl line 43: not JSON'): compress(tmp_path/'late.jsonl', tmp_path/'c3', **FAST)
    assert (tmp_path/'.c3.partial'/'data'/'00000.parquet').exists()
    assert compress(tmp_path/'late.jsonl', tmp_path/'c3', skip_bad=True, **FAST)['total']['documents'] == 44, 'it goes on from there'
    lines = [json.dumps(d, ensure_ascii=False) for d in docs(6)]; lines[4] = '{"text": "\\ud800 дом", "work": "odd"}'
    (tmp_path/'in.jsonl').write_text('\n'.join(lines), encoding='utf-8')
    with pytest.raises(ValueError, match=r"in.jsonl: document 5 \('odd'\) has a lone surrogate"): compress(tmp_path/'in.jsonl', tmp_path/'c', **FAST)

@pytest.mark.parametrize('given, says', [([], 'no documents'), ([dict(body='x')], "document 1 has no column 'text'"), ([dict(text='дом'), dict(text='дом', new='1')], "document 2 has a column 'new'"), ([dict(text='дом', edits='')], "a column 'edits' stands there already")])
def test_bad_documents(tmp_path, given, says):
    with pytest.raises(ValueError, match=says): compress(given, tmp_path/'c', **FAST)
    assert not (tmp_path/'c').exists()

@pytest.mark.parametrize('kw, says', [(dict(level=7), '1, 2, 3 or 4'), (dict(stages=['stem']), "no stage 'stem'"), (dict(procs=0), 'procs=0'), (dict(shard=0), 'shard=0'), (dict(sample=-1), 'sample=-1')])
def test_wrong_settings(tmp_path, kw, says):
    with pytest.raises(ValueError, match=says): compress(docs(), tmp_path/'c', **kw)
    assert not list(tmp_path.iterdir())

def test_a_missing_tokenizer_is_told_at_the_start(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere: no tokenizer folder'): compress(docs(), tmp_path/'c', tokenizer='nowhere')

def test_the_loaders_of_others_open_it(tmp_path):
    from datasets import load_dataset
    compress(docs(), tmp_path/'c', level=1, **FAST)
    d = load_dataset(str(tmp_path/'c'), cache_dir=str(tmp_path/'cache'))['train']
    assert d.column_names == ['text', 'work', 'author', 'title', 'edits', 'hash'] and d.num_rows == 60 and unpack(d[:])['text'] == [x['text'] for x in docs()]
    with pytest.raises(ValueError, match='edits'): compress(d, tmp_path/'again', **FAST)

def test_a_built_corpus_keeps_its_sides(material, tmp_path):
    compress(material/'corpus', tmp_path/'c', sample=0)
    seen = {r['split'] for r in pq.read_table(tmp_path/'c'/'data'/'00000.parquet').to_pylist()}
    assert seen == {'train', 'dev'}

def test_a_damaged_shard_is_named(tmp_path):
    m = compress(docs(), tmp_path/'c', **FAST)
    path = tmp_path/'c'/m['shards'][1]['file']
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match='c/data/00001.parquet: gone, cut short or changed'): restore(tmp_path/'c', tmp_path/'b')
    assert not (tmp_path/'b').exists()
    with pytest.raises(ValueError, match='not a folder that `hyperlex compress` has finished'): restore(tmp_path, tmp_path/'b')

def test_without_edits_there_is_only_a_guess(tmp_path):
    import torch
    from hyperlex_nb.restoration import Restorer, RestorerConfig, Symbols, edits
    with torch.random.fork_rng(): torch.manual_seed(0); Restorer(RestorerConfig(Symbols.build([[['w:и']*9]]).names, width=32, reader=1, writer=1, table=64, slots=16)).save_pretrained(tmp_path/'r')
    compress(docs(4), tmp_path/'c', level=3, edits=False, **FAST)
    assert pq.read_table(tmp_path/'c'/'data'/'00000.parquet').column_names == ['text', 'work', 'author', 'title', 'hash']
    with pytest.raises(ValueError, match='only guessed; pass restorer='): restore(tmp_path/'c', tmp_path/'b')
    with pytest.raises(ValueError, match='its texts are gone'): row(tmp_path/'c', sample=1000)
    got = restore(tmp_path/'c', tmp_path/'b', restorer=tmp_path/'r')
    assert got['exact'] is False and got['documents'] == 4 and got['right'] < 4
    assert json.loads((tmp_path/'b'/'manifest.json').read_text('utf-8'))['exact'] is False

# --- the price

def test_a_row_has_its_price(tmp_path):
    m = compress(docs(), tmp_path/'c', level=3, sample=100_000)
    r = row(tmp_path/'c')
    assert r == m['row'] and r == row(tmp_path/'c', sample=100_000)
    text, kept, dropped, both = (r['bits'][k][0] for k in ('text', 'kept', 'dropped', 'sum'))
    assert 0 < kept < text and dropped > 0 and both == pytest.approx(kept + dropped) and r['bits']['times'][0] == pytest.approx(both/text)
    assert r['words']['times'][0] > 1 and r['forms']['after'] < r['forms']['before'] and r['positions']['after'][0] < r['positions']['before'][0]
    assert all(v[1] <= v[0] <= v[2] for v in (r['words']['times'], r['bits']['times'], r['positions']['before']))
    told = C._told(m)
    assert 'times fewer' in told and 'edits (dropped)' in told and told in (tmp_path/'c'/'README.md').read_text('utf-8')

def test_nothing_taken_costs_nothing():
    works = {str(i): [SAY * 20] for i in range(3)}
    r = C._measure(works, (1, (), False), '', 1)
    assert r['words']['times'] == [1, 1, 1] and r['bits']['kept'] == r['bits']['text'] and r['bits']['dropped'][0] < .02

def test_the_sample_is_bounded_and_does_not_hang_on_the_order():
    def held(ds):
        s = C._Sample(5000)
        for n, d in enumerate(ds): s.add(n, d['work'] + d['title'], d['text'])
        return s
    a, b = held(docs()), held(docs()[::-1])
    assert a.works().keys() == b.works().keys() and 0 < a.bytes <= 5000
    big = C._Sample(10)
    big.add(1, 'w', 'слово ' * 10**6)
    assert len(big.held) == 1 and len(big.held[0][3]) == C._LONGEST

def test_texts_without_words_have_a_row(tmp_path):
    m = compress([dict(text=t) for t in ('', '123', 'и')], tmp_path/'c', tokenizer='')
    assert m['row']['words']['times'] is None or m['row']['words']['times'][0] >= 1
    json.loads((tmp_path/'c'/'manifest.json').read_text('utf-8'), parse_constant=lambda x: pytest.fail(x))

# --- beyond one machine

def test_map_of_datasets_on_two_processes():
    from datasets import Dataset
    given = Dataset.from_list(docs())
    packed = given.map(pack, batched=True, batch_size=7, num_proc=2, fn_kwargs=dict(level=3))
    assert packed['text'] == pack(dict(text=given['text']), level=3)['text']
    back = packed.map(unpack, batched=True, num_proc=2, remove_columns=['edits', 'hash'])
    assert back.to_list() == docs()

PIPE = '''
import os, signal, sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from hyperlex_nb.compress import telegraph_step
out, mark = sys.argv[1:]
def dies(data, rank=0, world_size=1):
    for n, doc in enumerate(data):
        if mark and rank == 2 and n == 5 and not os.path.exists(mark): open(mark, 'w').close(); os.kill(os.getpid(), signal.SIGKILL)
        yield doc
if __name__ == '__main__':
    LocalPipelineExecutor([ParquetReader('in'), telegraph_step(level=3, batch=3), dies, ParquetWriter(out)], tasks=4, workers=2, logging_dir=out + '.logs').run()
'''

def test_datatrove_on_two_workers_one_of_them_killed(tmp_path):
    pytest.importorskip('datatrove', reason='datatrove is not installed')
    (tmp_path/'in').mkdir()
    for k in range(4): pq.write_table(pa.table(dict(text=[d['text'] for d in docs()[k::4]], id=[f'{k}-{i}' for i in range(15)])), tmp_path/'in'/f'{k}.parquet')
    (tmp_path/'pipe.py').write_text(PIPE)
    def start(out, mark=''): return subprocess.Popen([sys.executable, 'pipe.py', out, mark], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    def done(out): return sorted(p.name for p in (tmp_path/f'{out}.logs'/'completions').glob('*')) if (tmp_path/f'{out}.logs').exists() else []
    assert start('whole').wait(timeout=300) == 0
    child = start('killed', 'mark')
    for _ in range(6000): # a pool never misses a killed worker: the run hangs, and is killed whole
        if (tmp_path/'mark').exists() and len(done('killed')) == 3: break
        assert child.poll() is None; time.sleep(.05)
    os.killpg(child.pid, signal.SIGKILL); child.wait()
    assert done('killed') == ['00000', '00001', '00003']
    assert start('killed', 'mark').wait(timeout=300) == 0
    def rows(out): return {p.name: pq.read_table(p).to_pylist() for p in sorted((tmp_path/out).glob('*.parquet'))}
    assert rows('killed') == rows('whole') and len(rows('whole')) == 4
    got = [r for rs in rows('killed').values() for r in rs]
    assert sorted(unpack(dict(text=[r['text'] for r in got], edits=[r['metadata']['edits'] for r in got], hash=[r['metadata']['hash'] for r in got]))['text']) == sorted(d['text'] for d in docs())

def test_without_datatrove_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'datatrove.pipeline.base', None)
    C._step_class.cache_clear()
    with pytest.raises(ImportError, match='pip install datatrove'): telegraph_step()
    C._step_class.cache_clear()
