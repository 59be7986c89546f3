"Scene records: every key in every line, nothing lost on the way to disk and back, a killed run that is taken up again leaves the same bytes, and whatever is wrong is named."
import dataclasses, functools, json, os, signal, subprocess, sys, textwrap
from pathlib import Path
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
import hyperlex_nb.scenes as S
from hyperlex_nb.scenes import SCHEMA, Scene, read_scenes, write_scenes

REGISTERS = dict(logic=dict(label='cause', p=.5), emotion=dict(label='calm', p=.5, valence=0), image=dict(label='mixed', p=.5, sense='none'), function=dict(label='narration', p=.5))
LAYERS = dict(rhythm=None, colour=['none'], philosophical_vector=dict(label='none', p=.5), poetry=['none'])
def labels(texts): return [dict(registers=REGISTERS, layers=dict(rhythm={}, colour=['red'] if 'красн' in t else [], philosophical_vector=LAYERS['philosophical_vector'], poetry=[])) for t in texts]
def squeezed(texts): return [''.join(t.split())[:20] for t in texts]
def scene(i, text='Тихо. ', **kw):
    about = dict(corpus='own', work=f'w{i}', author='', title='', span=[0, len(text)], tools='hyperlex', method='cohesion', target=600., seed=0)
    return Scene(**dict(id=f'w{i}:0-{len(text)}', text=text, scene='тихо', registers=REGISTERS, layers=LAYERS, source='own', position=dict(start=0, end=len(text), index=0, of=1), provenance=about) | kw)
def content(folder): return {p.name: p.read_bytes() for p in Path(folder).iterdir()}
DOCS = [dict(text='Дом стоял на горе. ' * 40 + f'Красный закат номер {i}. ' * 9, work=f'own/{i}', source='own') for i in range(23)]

# --- the record --------------------------------------------------------------------------------

def test_the_schema_is_a_schema():
    from jsonschema import Draft202012Validator
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA['$schema'] == 'https://json-schema.org/draft/2020-12/schema'

def test_its_labels_are_those_of_the_registers():
    LABELS = pytest.importorskip('hyperlex_nb.registers').LABELS
    r, l = SCHEMA['$defs']['registers']['properties'], SCHEMA['$defs']['layers']['properties']
    mine = {k: r[k]['properties']['label']['enum'] for k in ('logic', 'emotion', 'image', 'function')} | dict(valence=r['emotion']['properties']['valence']['enum'], sense=r['image']['properties']['sense']['enum'],
        philosophical_vector=l['philosophical_vector']['properties']['label']['enum'], rhythm=l['rhythm']['anyOf'][1]['properties']['metre']['enum'], colour=l['colour']['items']['enum'], poetry=l['poetry']['items']['enum'])
    for k, v in LABELS.items(): assert {*mine[k]} == {*v} | ({'none'} if k in ('colour', 'poetry') else set()), k

def test_every_line_has_every_key_and_fits():
    rows = list(S._rows(scene(0), True))
    assert [r['task'] for r in rows] == ['scene', 'compress', 'expand'] and {frozenset(r) for r in rows} == {frozenset(SCHEMA['required'])}
    assert [S._fault(r) for r in rows] == ['']*3
    assert (rows[1]['input'], rows[1]['target']) == (rows[2]['target'], rows[2]['input']) == ('Тихо. ', 'тихо')

@pytest.mark.parametrize('key', SCHEMA['required'])
def test_a_missing_key_is_refused(key):
    row = next(S._rows(scene(0), False))
    assert repr(key) in S._fault({k: v for k, v in row.items() if k != key})
    if key not in ('task', 'input', 'target'): assert S._fault(row | {key: None}) and S._fault(row | {key: 7})

@pytest.mark.parametrize('change, says', [(dict(registers={k: v for k, v in REGISTERS.items() if k != 'logic'}), 'registers'), (dict(registers=REGISTERS | dict(logic=dict(label='joy', p=.5))), 'registers'),
    (dict(registers=REGISTERS | dict(logic='cause')), 'registers'), (dict(layers=LAYERS | dict(colour=[])), 'layers'), (dict(layers=LAYERS | dict(colour=['mauve'])), 'layers'), (dict(layers=LAYERS | dict(colour='red')), 'layers'),
    (dict(layers=LAYERS | dict(poetry=['simile', 1])), 'layers'), (dict(position=dict(start=-1, end=3, index=0, of=1)), 'position'), (dict(position=dict(start=0, end=3.5, index=0, of=1)), 'position'),
    (dict(text=b'x'), 'no JSON'), (dict(registers=REGISTERS | dict(logic=dict(label='cause', p=float('nan')))), 'no JSON'), (dict(id=''), 'id'), (dict(extra=1), 'extra'),
    (dict(text='а\ud83d'), 'lone surrogate'), (dict(scene='\udc00'), 'lone surrogate'), (dict(source='x\ud800'), 'lone surrogate')])
def test_a_wrong_value_is_refused(change, says):
    assert says in S._fault(next(S._rows(scene(0), False)) | change)

@pytest.mark.parametrize('row', [None, 3, [], {}, 'x', [{}]])
def test_what_is_no_record(row): assert S._fault(row)

# --- from documents ----------------------------------------------------------------------------

def test_stream_loses_nothing():
    got = list(Scene.stream(DOCS, squeezed, labels, target=200))
    assert ''.join(s.text for s in got) == ''.join(d['text'] for d in DOCS)
    by = {d['work']: d['text'] for d in DOCS}
    for s in got:
        a, b = s.provenance['span']
        assert s.text == by[s.provenance['work']][a:b] and (s.position['start'], s.position['end']) == (a, b) and s.scene == squeezed([s.text])[0]
        assert s.layers['colour'] == (['red'] if 'красн' in s.text else ['none']) and s.layers['rhythm'] is None
        assert not S._fault(next(S._rows(s, False)))
    third = [s.position for s in got if s.provenance['work'] == 'own/3']
    assert [p['index'] for p in third] == [*range(len(third))] and {p['of'] for p in third} == {len(third)}
    assert len({s.id for s in got}) == len(got) > 2*len(DOCS)

def test_stream_does_not_depend_on_processes():
    assert list(Scene.stream(DOCS, squeezed, labels, target=200, procs=2)) == list(Scene.stream(DOCS, squeezed, labels, target=200))

def test_stream_is_lazy():
    def endless():
        for i in range(10**9): yield dict(text='Слово. ', work=str(i))
    assert next(Scene.stream(endless(), squeezed, labels)).text == 'Слово. '

def test_odd_documents():
    docs = [dict(text=''), dict(text='х'), dict(text='a\u2028b\0c\U0001f600', work='w', author=None, title=3)]
    got = list(Scene.stream(docs, squeezed, labels))
    assert [s.text for s in got] == ['х', 'a\u2028b\0c\U0001f600'] and got[0].id == 'document 1:0-1' and got[1].provenance['title'] == '3'

def test_a_bad_document_is_named():
    for text, error, match in (('пло\ud83dхо', ValueError, "document 1 .'w1'. has a lone surrogate .* at character 3"), (None, TypeError, "document 1 .'w1'. is NoneType, not str")):
        with pytest.raises(error, match=match): list(Scene.stream([dict(text='а', work='w0'), dict(text=text, work='w1')], squeezed, labels))

# --- to disk -----------------------------------------------------------------------------------

def test_round_trip(tmp_path):
    made = [scene(i, text) for i, text in enumerate(['а', 'x\u2028y\u2029\x85z', 'нуль\0', '{"json": "\\n"}', '\n\n', '👩‍👩‍👧‍👦', '"' * 50, '\U0010ffff', 'строка\r\nдругая'])]
    m = write_scenes(made, tmp_path/'s', shard=4)
    assert list(read_scenes(tmp_path/'s')) == made and [s['scenes'] for s in m['shards']] == [4, 4, 1] and m['status'] == 'finished'
    assert sorted(p.name for p in (tmp_path/'s').glob('*')) == ['.lock', 'README.md', 'hypertrain-00000.jsonl', 'hypertrain-00001.jsonl', 'hypertrain-00002.jsonl', 'manifest.json']
    assert [(p['input'], p['target']) for p in read_scenes(tmp_path/'s', task='expand')] == [('тихо', s.text) for s in made]
    assert len(list(read_scenes(tmp_path/'s', task=None))) == 27 == sum(s['lines'] for s in m['shards'])
    assert list(read_scenes(tmp_path/'s'/'hypertrain-00001.jsonl')) == made[4:8]

@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=['Cs']), max_size=40), max_size=7), st.booleans())
def test_round_trip_of_anything(tmp_path_factory, texts, pairs):
    made, folder = [scene(i, t) for i, t in enumerate(texts)], tmp_path_factory.mktemp('any')/'s'
    write_scenes(made, folder, shard=3, pairs=pairs)
    if made: assert list(read_scenes(folder)) == made

def test_manifest_and_datasheet(tmp_path):
    import hashlib
    m = write_scenes((scene(i, 'слово ' * 50, scene='слово' * 30) for i in range(5)), tmp_path/'s', shard=2, name='проба', source='own')
    assert json.loads((tmp_path/'s'/'manifest.json').read_text()) == m and m['scenes'] == 5 and m['parameters']['source'] == 'own'
    for s in m['shards']:
        data = (tmp_path/'s'/s['file']).read_bytes()
        assert s['sha256'] == hashlib.sha256(data).hexdigest() and s['bytes'] == len(data) and s['lines'] == data.count(b'\n')
    card = (tmp_path/'s'/'README.md').read_text()
    assert card.startswith('---\nlanguage: ru') and '# проба' in card and '| 5 | 15 | 3 |' in card and '100.0%' in card

class Cut(Exception): pass
def cut(scenes, n):
    yield from scenes[:n]
    raise Cut

MADE = [scene(i, f'Сцена {i}. ') for i in range(10)]
@pytest.mark.parametrize('again', ['made again', 'left out'])
@pytest.mark.parametrize('n', range(11))
def test_resumed_anywhere_the_bytes_are_the_same(tmp_path, n, again):
    write_scenes(MADE, tmp_path/'whole', shard=3)
    with pytest.raises(Cut): write_scenes(cut(MADE, n), tmp_path/'cut', shard=3)
    assert len(list((tmp_path/'cut').glob('*.jsonl'))) == n//3, 'only whole shards are there'
    write_scenes(MADE if again == 'made again' else lambda k: iter(MADE[k:]), tmp_path/'cut', shard=3)
    assert content(tmp_path/'cut') == content(tmp_path/'whole')
    write_scenes(MADE, tmp_path/'cut', shard=3)
    assert content(tmp_path/'cut') == content(tmp_path/'whole'), 'a finished run, run again'

def test_killed_between_shard_and_manifest(tmp_path, monkeypatch):
    write_scenes(MADE, tmp_path/'whole', shard=3)
    real, count = S._write, [0]
    def stops(path, text):
        count[0] += path.name == 'manifest.json'
        if count[0] == 3: raise Cut # the second shard is there, the manifest does not know
        real(path, text)
    monkeypatch.setattr(S, '_write', stops)
    with pytest.raises(Cut): write_scenes(MADE, tmp_path/'cut', shard=3)
    monkeypatch.setattr(S, '_write', real)
    write_scenes(MADE, tmp_path/'cut', shard=3)
    assert content(tmp_path/'cut') == content(tmp_path/'whole')

def test_killed_for_real(tmp_path):
    program = textwrap.dedent(f'''
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_scenes import MADE, write_scenes
        def slow(n):
            for i, s in enumerate(MADE[n:], n):
                if i == 7: print('now', flush=True); time.sleep(60)
                yield s
        write_scenes(slow, {str(tmp_path/'cut')!r}, shard=3)''')
    with subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE, env=os.environ | dict(PYTHONPATH=str(Path(S.__file__).parent.parent))) as p:
        assert p.stdout.readline() == b'now\n'
        with pytest.raises(ValueError, match='another process is writing there'): write_scenes(MADE, tmp_path/'cut', shard=3)
        os.kill(p.pid, signal.SIGKILL)
    write_scenes(MADE, tmp_path/'whole', shard=3)
    write_scenes(MADE, tmp_path/'cut', shard=3)
    assert content(tmp_path/'cut') == content(tmp_path/'whole')

@pytest.mark.parametrize('change, match', [(dict(shard=4), 'begun with shard=3, not 4'), (dict(pairs=False), 'begun with pairs=True, not False'), (dict(density=.3), 'begun with density=0.5, not 0.3'), (dict(density=None), 'density=0.5, not None'),
                                           (dict(seed=1), 'begun with seed=None, not 1')])
def test_a_changed_parameter_is_refused(tmp_path, change, match):
    with pytest.raises(Cut): write_scenes(cut(MADE, 7), tmp_path/'s', shard=3, density=.5)
    before = content(tmp_path/'s')
    with pytest.raises(ValueError, match=match): write_scenes(MADE, tmp_path/'s', **dict(shard=3, density=.5) | change)
    assert content(tmp_path/'s') == before

def test_changed_scenes_are_refused(tmp_path):
    with pytest.raises(Cut): write_scenes(cut(MADE, 7), tmp_path/'s', shard=3)
    before = content(tmp_path/'s')
    other = [*MADE]; other[4] = dataclasses.replace(MADE[4], scene='иначе')
    with pytest.raises(ValueError, match="scene 4 is not what was written before .'w4:0-9'"): write_scenes(other, tmp_path/'s', shard=3)
    with pytest.raises(ValueError, match='scene 2 is not what was written before .*no more'): write_scenes(MADE[:2], tmp_path/'s', shard=3)
    assert content(tmp_path/'s') == before

def test_a_finished_folder_takes_no_more(tmp_path):
    write_scenes(MADE[:5], tmp_path/'s', shard=3)
    before = content(tmp_path/'s')
    for more in (MADE, lambda n: iter(MADE[n:])):
        with pytest.raises(ValueError, match='finished with 5 scenes, and these go on'): write_scenes(more, tmp_path/'s', shard=3)
    assert content(tmp_path/'s') == before

@pytest.mark.parametrize('spoil', [lambda p: p.unlink(), lambda p: p.write_bytes(p.read_bytes()[:-5]), lambda p: p.write_bytes(b'')])
def test_a_changed_shard_is_refused(tmp_path, spoil):
    with pytest.raises(Cut): write_scenes(cut(MADE, 7), tmp_path/'s', shard=3)
    spoil(tmp_path/'s'/'hypertrain-00001.jsonl')
    with pytest.raises(ValueError, match='s/hypertrain-00001.jsonl is missing or changed'): write_scenes(MADE, tmp_path/'s', shard=3)

def test_foreign_shards_are_left_alone(tmp_path):
    (tmp_path/'hypertrain-00000.jsonl').write_text('{}\n')
    with pytest.raises(ValueError, match='shards but no manifest'): write_scenes(MADE, tmp_path)
    assert (tmp_path/'hypertrain-00000.jsonl').read_text() == '{}\n'

@pytest.mark.parametrize('at', [1, 5, 9])
def test_ids_do_not_repeat(tmp_path, at):
    twice = [*MADE[:at], MADE[0], *MADE[at:]]
    with pytest.raises(ValueError, match=f"scene {at} has the id 'w0:0-9' of an earlier one"): write_scenes(twice, tmp_path/'s', shard=3)
    with pytest.raises(ValueError, match=f"scene {at} has the id"): write_scenes(lambda n: twice[n:], tmp_path/'s', shard=3) # remembered over a resumption
    write_scenes(MADE, tmp_path/'s', shard=3)

def test_a_bad_scene_is_named_and_what_was_written_stays(tmp_path):
    bad = [*MADE[:4], scene(4, 'пло\ud83dхо'), *MADE[5:]]
    with pytest.raises(ValueError, match="scene 4 .'w4:0-6'.: it holds a lone surrogate .*clean"): write_scenes(bad, tmp_path/'s', shard=3)
    assert [s.id for s in read_scenes(tmp_path/'s')] == [s.id for s in MADE[:3]]
    with pytest.raises(ValueError, match='scene 0 .*colour'): write_scenes([scene(0, layers=LAYERS | dict(colour=[]))], tmp_path/'t')

def test_a_full_disk(small_disk):
    with pytest.raises(OSError, match='free some space'): write_scenes((scene(i, 'слово ' * 2000) for i in range(99)), small_disk/'s', shard=10)
    assert list(read_scenes(small_disk/'s')) # the whole shards can be read

def test_nothing_to_write(tmp_path):
    m = write_scenes([], tmp_path/'s')
    assert m['scenes'] == 0 and m['shards'] == [] and '| 0 | 0 | 0 |' in (tmp_path/'s'/'README.md').read_text()

# --- and back ----------------------------------------------------------------------------------

@pytest.fixture
def folder(tmp_path):
    write_scenes(MADE, tmp_path/'s', shard=4)
    return tmp_path/'s'

BAD = {'cut': lambda l: l[:40], 'not JSON': lambda l: b'hello', 'empty': lambda l: b'', 'not UTF-8': lambda l: l[:30] + b'\xff' + l[30:], 'NaN': lambda l: l.replace(b'0.5', b'NaN', 1), 'list': lambda l: b'[1]', 'null': lambda l: b'null',
       'no key': lambda l: json.dumps({k: v for k, v in json.loads(l).items() if k != 'input'}).encode(), 'task': lambda l: l.replace(b'"scene"', b'"scenes"', 1), 'label': lambda l: l.replace(b'"calm"', b'"hunger"'),
       'surrogate': lambda l: l.replace(b'"own"', b'"\\ud800"', 1), 'deep': lambda l: b'[' * 100_000, 'two': lambda l: l + l}
@pytest.mark.parametrize('how', BAD)
def test_a_bad_line_in_the_middle(folder, how):
    path = folder/'hypertrain-00001.jsonl'
    rows = path.read_bytes().split(b'\n')
    assert json.loads(rows[3])['task'] == 'scene' and (spoilt := BAD[how](rows[3])) != rows[3]
    rows[3] = spoilt
    path.write_bytes(b'\n'.join(rows))
    with pytest.raises(ValueError, match=r'^hypertrain-00001.jsonl:4: .*Mend it, or read with'): list(read_scenes(folder))
    r = read_scenes(folder, errors='skip')
    assert [s.id for s in r] == [s.id for i, s in enumerate(MADE) if i != 5] and len(r.skipped) == 1 and r.skipped[0].startswith('hypertrain-00001.jsonl:4: ')
    assert len(list(r)) == 9 and len(r.skipped) == 1, 'read twice, counted once'
    got = [s.id for s in iter_until_error(read_scenes(folder))]
    assert got == [s.id for s in MADE[:5]], 'what stands before the bad line was given'

def iter_until_error(r):
    try: yield from r
    except ValueError: pass

def test_lines_lost_at_the_end_of_a_file(folder):
    path = folder/'hypertrain-00000.jsonl'
    path.write_bytes(b''.join(path.read_bytes().splitlines(True)[:6]))
    with pytest.raises(ValueError, match='hypertrain-00000.jsonl:6: the file ends here, the manifest counts 12 lines'): list(read_scenes(folder))
    r = read_scenes(folder, errors='skip')
    assert len(list(r)) == 8 and len(r.skipped) == 1

def test_a_lost_file(folder, tmp_path):
    (folder/'hypertrain-00001.jsonl').unlink()
    with pytest.raises(FileNotFoundError, match='s/hypertrain-00001.jsonl is in the manifest'): read_scenes(folder)
    with pytest.raises(FileNotFoundError, match='no such file'): read_scenes(tmp_path/'nothing.jsonl')
    (tmp_path/'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='write_scenes makes them'): read_scenes(tmp_path/'empty')
    with pytest.raises(ValueError, match="errors='ignore'"): read_scenes(folder, errors='ignore')
    with pytest.raises(ValueError, match="task='pairs'"): read_scenes(folder, task='pairs')

def test_plain_datasets(tmp_path):
    "Also when the first file has no colours at all, the second has; and with no code or card of ours."
    datasets = pytest.importorskip('datasets')
    datasets.disable_progress_bars()
    made = [scene(i, f'x\u2028{i}', layers=LAYERS | dict(colour=['red'] if i == 5 else ['none'])) for i in range(6)]
    write_scenes(made, tmp_path/'s', shard=3)
    ds = datasets.load_dataset('json', data_files=sorted(map(str, (tmp_path/'s').glob('*.jsonl'))), split='train', cache_dir=str(tmp_path/'cache'))
    rows = [r for r in ds if r['task'] == 'scene']
    assert ds.num_rows == 18 and [Scene(**{f: r[f] for f in Scene.__dataclass_fields__}) for r in rows] == made
    again = datasets.load_dataset(str(tmp_path/'s'), split='train', cache_dir=str(tmp_path/'cache2')) # by the card
    assert again.num_rows == 18 and again.features == ds.features
