"Views: the cuts give the text back, the page is safe, the counts are those of fertility, bad input is one sentence."
import io, json, os, random, re, sys
from html.parser import HTMLParser
import matplotlib.pyplot as plt, numpy as np, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from hyperlex_nb import views as V
from hyperlex_nb.tokenizer import Peer, fertility, peers, train_tokenizer
from hyperlex_nb.views import cuts, draw, load, report, show_html

BASE = ('Мой сосед, Пётр Ильич, в 1917 году сказал: «Нет, бессознательное — это не перевыборы!» — и ушёл.\n'
        '\tПозже он загуглил 12,5 % слов (и не нашёл)…\r\n')
HOSTILE = ['', ' ', '  ', '\n', '\r\n\r\n', '\t', '\0', ' \n \n\t ', 'Ёж', 'АБВ ГД', ' Он  Она', '👩‍👩‍👧‍👦', '👍🏽🇷🇺 да', 'за́мок замо́к', '\u0301', 'й и\u0306',
           'Zнак λόγος 漢字 שלום عربي', '\u202eоборот\u202c', '\ufeffBOM', '\u200b\u200d\u2060', '\u2028\u2029\u0085\x1c', '\u00a0\u202f', '\uffff\U0010ffff',
           '\ue000А\ue000 \ue001', '<|endoftext|>', '<script>alert("&amp;")</script>', '$a$ $5 \\$', '<0x41>', '▁слово Ġ', 'x'*300, '٣²½', BASE*3]
PUBLIC = ('gpt2', 'cl100k', 'qwen', 'llama3', 'tekken', 'o200k', 'gemma3', 'llama4')


def marked():
    "A stock Unigram with byte fallback that writes a capital as a marker before the space and the small letter, and has multi-word pieces"
    low = 'абвгдежзийклмнопрстуфхцчшщъыьэюяё'
    pieces = [*low, *(f' {c}' for c in low), '\ue000', '\ue000 ', *(f'\ue000{c}' for c in low[:20]), ' ', ' пётр ильич', '\ue000 пётр\ue000 ильич', '», — и', 'бессознат', 'ельное', ': «\ue000нет,']
    bytes_ = [f'<0x{i:02X}>' for i in range(256)]
    t = Tokenizer(models.Unigram([('<|endoftext|>', -50.), ('<|pad|>', -50.), *((b, -20.) for b in bytes_), *((p, -1. - i*1e-5) for i, p in enumerate(pieces))], 0, True))
    up = low.upper()
    t.normalizer = normalizers.Sequence([normalizers.Replace('\ue000', '\ue000\ue001'), normalizers.Replace(Regex(f' (?=[{up}])'), '\ue000 '),
                                         *(normalizers.Replace(c, '\ue000' + c.lower()) for c in up), normalizers.Replace('\ue000 \ue000', '\ue000 ')])
    t.pre_tokenizer, t.decoder = pre_tokenizers.Split(Regex(r'[\r\n]|<(?=0x|[|])'), 'isolated'), decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token='<|endoftext|>', eos_token='<|endoftext|>', pad_token='<|pad|>', split_special_tokens=True)


@pytest.fixture(scope='module')
def kinds(): return dict(bpe=train_tokenizer([BASE]*20, 330), unigram=train_tokenizer([BASE]*20, 330, 'unigram'), marked=marked(), **{n: load(n) for n in V._stock()})


@pytest.fixture(scope='module')
def folder(tmp_path_factory, kinds):
    kinds['bpe'].save_pretrained(d := tmp_path_factory.mktemp('tok')/'mine')
    return d


def public(name):
    got = peers(say=lambda s: None)
    if name not in got: pytest.skip(f'{name} is not installed: make peers')
    return got[name]


def whole(tok, text):
    "What holds of the cuts of `text`, whatever the tokenizer"
    got, groups = cuts(tok, text), V._groups(tok, text)
    ids = list(tok(text)) if isinstance(tok, Peer) else tok(text, add_special_tokens=False, split_special_tokens=True)['input_ids']
    assert ''.join(c for c, _ in got) == text and [i for _, i in got] == ids and all(type(i) is int for i in ids)
    assert ''.join(c for c, _ in groups) == text and [i for _, g in groups for i in g] == ids and all(c and g for c, g in groups)


# --- cuts -------------------------------------------------------------------------------------

@pytest.mark.parametrize('text', HOSTILE, ids=lambda s: ascii(s[:12]))
def test_the_cuts_give_the_text_back(kinds, text):
    for tok in kinds.values(): whole(tok, text)


@pytest.mark.parametrize('name', PUBLIC)
def test_the_cuts_of_public_tokenizers_give_the_text_back(name):
    for text in HOSTILE: whole(public(name), text)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.one_of(st.sampled_from(' \n\tАБабвЁё,—0\u0301\u200d\ue000'), st.characters(exclude_categories=['Cs'])), max_size=60))
def test_any_unicode(kinds, text):
    for tok in kinds.values(): whole(tok, text)


def test_a_token_that_is_bytes_shows_its_bytes_characters():
    "Groups hold exactly what their tokens decode to, where decoding is by bytes"
    tok = train_tokenizer([BASE]*20, 300)
    for text in HOSTILE:
        for chars, ids in V._groups(tok, text): assert tok.decode(ids) == chars


@pytest.mark.parametrize('name', ['gpt2', 'o200k', 'tekken'])
def test_groups_of_tiktoken_are_the_bytes_of_their_tokens(name):
    tok = public(name)
    for text in HOSTILE:
        for chars, ids in V._groups(tok, text): assert V._engine(tok.path, tok.pattern).decode_bytes(ids) == chars.encode()


def test_capital_space_and_marker_belong_together(kinds):
    assert cuts(kinds['marked'], 'он, Пётр Ильич')[-1][0] == ' Пётр Ильич'
    assert [(c, len(g)) for c, g in V._groups(kinds['marked'], 'Э 👩‍👧')] == [('Э', 2), (' ', 1), ('👩‍👧', 11)]


def test_byte_spans_against_a_loop():
    rng = random.Random(0)
    for text in HOSTILE[1:]:
        raw = text.encode()
        cut = sorted({0, len(raw), *(rng.randrange(len(raw) + 1) for _ in range(5))})
        at = [i for i, c in enumerate(text) for _ in c.encode()]
        assert V._byte_spans(raw, np.diff(cut)) == [(at[a], at[b - 1] + 1) for a, b in zip(cut, cut[1:])]


def test_special_tokens_in_the_text_are_text(kinds):
    for tok in kinds.values(): assert len(cuts(tok, '<|endoftext|>')) > 1 and tok.eos_token_id not in [i for _, i in cuts(tok, '<|endoftext|>')]


def test_what_cannot_be_cut(kinds):
    with pytest.raises(ValueError, match='lone surrogate.*at character 1'): cuts(kinds['bpe'], 'а\ud800')
    with pytest.raises(TypeError, match='bytes, not str'): cuts(kinds['bpe'], b'x')
    lossy = Tokenizer(models.WordLevel({'да': 0}))
    lossy.pre_tokenizer = pre_tokenizers.Whitespace()
    lossy = PreTrainedTokenizerFast(tokenizer_object=lossy)
    with pytest.raises(ValueError, match='loses characters'): cuts(lossy, '   ')


# --- names ------------------------------------------------------------------------------------

def test_load_a_folder_and_a_tokenizer(folder, kinds):
    assert cuts(folder, BASE) == cuts(str(folder), BASE) == cuts(kinds['bpe'], BASE)
    assert load(kinds['bpe']) is kinds['bpe']


def test_an_unknown_name_lists_what_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(V, '_stock', lambda: {'hyperlex-64k': tmp_path})
    monkeypatch.setattr(V, 'peers', lambda say: {'o200k': None})
    with pytest.raises(ValueError, match=r"no tokenizer 'gpt-2': give a folder .*one of: hyperlex-64k, o200k"): load('gpt-2')
    monkeypatch.setattr(V, 'peers', lambda say: say('not installed: o200k; `make peers` fetches them') or {})
    with pytest.raises(ValueError, match="'o200k'.*make peers"): load('o200k')


def test_a_folder_that_holds_no_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match='tokenizer.json is missing'): load(tmp_path)


@pytest.mark.parametrize('name', V._STOCK)
def test_the_stock_names(name):
    if name not in V._stock(): pytest.skip(f'{name} is not built yet')
    whole(load(name), BASE)


def test_damaged_public_tokenizer(tmp_path):
    (tmp_path/'gemma3.json').write_text('{')
    with pytest.raises(ValueError, match='gemma3.json is damaged.*make peers'): cuts(Peer('gemma3', tmp_path/'gemma3.json', ''), 'да')


# --- HTML -------------------------------------------------------------------------------------

class Page(HTMLParser):
    "Tags, titles and visible text of boxes"
    def __init__(self, data):
        super().__init__()
        self.tags, self.titles, self.text, self.open = set(), [], '', []
        self.feed(data); self.close()
    def handle_starttag(self, tag, attrs):
        self.tags.add(tag); self.open.append(tag)
        if 'title' in dict(attrs): self.titles.append(dict(attrs)['title'])
    def handle_endtag(self, tag): assert self.open.pop() == tag
    def handle_data(self, data): self.text += data*('p' in self.open)


@pytest.mark.parametrize('text', HOSTILE, ids=lambda s: ascii(s[:12]))
def test_html_is_safe_and_shows_the_text(kinds, text):
    for name, tok in kinds.items():
        page = Page(show_html(text, {name: tok}).data)
        groups = V._groups(tok, text)
        assert page.tags <= {'style', 'div', 'section', 'h4', 'small', 'p', 'span'} and not page.open
        assert page.text == ''.join(V._visible(c).replace('↵', '↵\n') for c, _ in groups)
        assert [int(t.split(': ')[-1]) for t in page.titles] == [len(c.encode()) for c, _ in groups]
        assert [[int(i) for i in re.match(r'id ([\d ]+);', t)[1].split()] for t in page.titles] == [g for _, g in groups]


def test_html_of_a_hostile_name(kinds):
    assert '<img' not in show_html('да', {'<img src=x onerror=alert(1)>': kinds['bpe']}).data


def test_html_counts(kinds):
    tok = kinds['marked']
    n, data = len(cuts(tok, BASE)), show_html(BASE, {'m': tok}).data
    assert f'{n} tokens, {n/len(BASE.split()):.2f} a word, {len(BASE.encode())/n:.2f} bytes each' in data
    assert '0 tokens' in show_html('', {'m': tok}).data


def test_neighbours_differ_in_colour(kinds):
    data = show_html(BASE.replace('\n', ' '), {'u': kinds['unigram']}).data
    used = re.findall('#\\w{6}', data.split('</style>')[1])
    assert set(used) == set(V._COLOURS) and len(used) == len(cuts(kinds['unigram'], BASE.replace('\n', ' ')))
    assert all(a != b for a, b in zip(used, used[1:]))


def test_colours_can_be_read():
    def light(c):
        r, g, b = (int(c[i:i+2], 16)/255 for i in (1, 3, 5))
        return sum(w*(x/12.92 if x <= .03928 else ((x + .055)/1.055)**2.4) for w, x in zip((.2126, .7152, .0722), (r, g, b)))
    for c in V._COLOURS: assert (light(c) + .05)/(light('#111111') + .05) > 12


@pytest.mark.parametrize('text', ['\u202e', '\u200b', '\u2028', '\x85', '\0', '\u00a0', '\ufeff', '\ue000', '\t', '\r', '\u200d'])
def test_what_cannot_be_seen_gets_a_sign(text): assert V._visible(text).isprintable() and V._visible(text) != text


# --- figure -----------------------------------------------------------------------------------

@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('text', HOSTILE, ids=lambda s: ascii(s[:12]))
def test_draw_hostile_text(kinds, text, tmp_path):
    fig = draw(text, {'$x$': kinds['bpe'], 'm': kinds['marked']}, width=30)
    fig.savefig(tmp_path/'f.png', dpi=30)
    plt.close(fig)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text('аб\n', min_size=1, max_size=9), st.integers(1, 4)), min_size=1, max_size=12), st.integers(1, 7))
def test_colour_covers_every_cell_once(groups, width):
    rows, marks = V._lines([(t, [0]*n) for t, n in groups], width)
    for y, row in enumerate(rows):
        stretches = sorted((x, x + w) for yy, x, w, *_ in marks if yy == y)
        assert len(row) <= width and sum(b - a for a, b in stretches) == pytest.approx(len(row))
        assert all(b == pytest.approx(c) for (_, b), (c, _) in zip(stretches, stretches[1:]))
    assert sum(first for *_, first in marks) == sum(n for _, n in groups)


# --- files ------------------------------------------------------------------------------------

def test_counts_are_those_of_fertility(kinds, folder, tmp_path):
    texts = {'a.txt': BASE*2000, 'b.txt': 'да нет', 'c.txt': '  \r\n' + BASE}
    for n, t in texts.items(): (tmp_path/n).write_bytes(t.encode())
    kinds['marked'].save_pretrained(tmp_path/'m')
    rows = report([tmp_path/n for n in texts], [folder, tmp_path/'m'])
    assert [r['file'] for r in rows] == [str(tmp_path/n) for n in texts for _ in range(2)] + ['total']*2
    for tok, mine in ((kinds['bpe'], rows[::2]), (kinds['marked'], rows[1::2])):
        counts = [fertility([t], lambda t: tok(t, add_special_tokens=False)['input_ids']).counts[0] for t in texts.values()]
        for row, c in zip(mine, [*counts, sum(counts)]):
            assert [row[k] for k in ('tokens', 'words', 'bytes', 'characters')] == c[:4].tolist()
            assert row['tokens_per_word'] == c[0]/c[1] and row['bytes_per_token'] == c[2]/c[0]
    json.dumps(rows)


@pytest.mark.parametrize('name', PUBLIC)
def test_chunks_change_no_count_of_a_public_tokenizer(name):
    tok, text = public(name), (BASE + 'Слово\n\n  — Да!\n\n\nслово\r\n\r\n')*60
    assert [i for c in V._chunks([text[:999], text[999:]], 200) for i in tok(c)] == tok(text)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text('аб \n\r\t.1А—', max_size=30), max_size=12), st.integers(1, 9), st.integers(9, 40))
def test_chunks_join_to_the_text(kinds, blocks, size, longest):
    text, chunks = ''.join(blocks), list(V._chunks(blocks, size, longest))
    assert ''.join(chunks) == text and all(chunks)
    if longest >= len(text):
        for tok in kinds.values(): assert [i for c in chunks for i in V._encode(tok, c)[0]] == V._encode(tok, text)[0]


@pytest.mark.parametrize('char', ['я', ' ', '\n', 'я ', 'я\n', '.\n'])
def test_a_long_file_is_held_in_part(char, kinds, tmp_path):
    "Of 12 million characters never more than a few blocks are in hand, and words are not cut in two"
    given_, most, taken = 0, 0, 0
    def blocks():
        nonlocal given_
        for _ in range(24):
            given_ += 500_000
            yield char*(500_000//len(char))
    for c in V._chunks(blocks()):
        taken += len(c)
        most = max(most, given_ - taken)
    assert taken == given_ and most < 2_000_000
    (tmp_path/'x.txt').write_text('начало ' + char*(3_000_000//len(char)), newline='')
    class One:
        def __call__(self, text, **kw): return dict(input_ids=[0])
    (n, size, chars, _), _ = V._count(tmp_path/'x.txt', 'utf-8', {'one': One()}, 0)
    text = 'начало ' + char*(3_000_000//len(char))
    assert (n, size, chars) == (len(text.split()), len(text.encode()), len(text))


def test_the_view_of_files(folder, tmp_path):
    (tmp_path/'<b>.txt').write_text(BASE*300)
    report([tmp_path/'<b>.txt'], [folder], out=tmp_path/'v.html', limit=150)
    data = (tmp_path/'v.html').read_text()
    assert data.startswith('<!doctype html><meta charset=utf-8>') and '&lt;b&gt;.txt' in data and '<b>' not in data
    assert Page(data).text.replace('↵', '').replace('␍', '\r').replace('⇥', '\t') == (BASE*300)[:150]
    assert sorted(p.name for p in tmp_path.iterdir()) == ['<b>.txt', 'v.html']


def test_a_failed_view_leaves_the_old_one(folder, tmp_path):
    (tmp_path/'a.txt').write_text('да')
    (tmp_path/'v.html').write_text('old')
    with pytest.raises(ValueError, match='is empty'): report([tmp_path/'a.txt', os.devnull], [folder], out=tmp_path/'v.html')
    assert (tmp_path/'v.html').read_text() == 'old'
    with pytest.raises(ValueError, match='write the view elsewhere'): report([tmp_path/'a.txt'], [folder], out=tmp_path/'.'/'a.txt')
    assert (tmp_path/'a.txt').read_text() == 'да'


def test_standard_input(folder, monkeypatch, kinds):
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(BASE.encode())))
    row, = report(['-'], [folder])
    assert row['tokens'] == len(cuts(kinds['bpe'], BASE)) and row['characters'] == len(BASE)
    assert sys.stdin.buffer.closed is False


LONG = 'Ночь, улица, фонарь и снова тёмная вода. '*40_000
@pytest.mark.parametrize('data, encoding, error', [
    (LONG[:4000].encode('cp1251'), 'utf-8', r'not utf-8 at byte 0: try encoding cp1251 .*--encoding cp1251'),
    (b'hello '*200_000 + LONG[:9000].encode('koi8-r'), 'utf-8', r'at byte 1200000: try encoding'),
    (LONG[:4000].encode('utf-16'), 'utf-8', 'at byte 0: try encoding utf-16'),
    (LONG[:4000].encode('utf-16-le'), 'utf-8', r'at byte 9: try encoding utf-16-le'),
    (LONG.encode()[:1_300_001] + b'\xff' + LONG.encode()[1_300_001:], 'utf-8', r'at byte 1300\d{3}: it is damaged UTF-8: `iconv'),
    ('слово'.encode()[:-1], 'utf-8', 'at byte 8: it ends inside a character'),
    (bytes(range(256))*9, 'utf-8', 'at byte .*no text at all'),
    (b'', 'utf-8', 'is empty'), (b' \n\t', 'utf-8', 'has no words'),
    ('да'.encode(), 'utf8mb4', "no encoding 'utf8mb4'"), (b'0a', 'hex', "no encoding 'hex'")])
def test_bad_files(folder, tmp_path, data, encoding, error):
    (tmp_path/'x.txt').write_bytes(data)
    with pytest.raises(ValueError, match=error) as e: report([tmp_path/'x.txt'], [folder], encoding=encoding)
    assert '\n' not in str(e.value)


@pytest.mark.parametrize('encoding', ['cp1251', 'koi8-r', 'utf-16', 'utf-8-sig'])
def test_other_encodings_count_the_same(folder, tmp_path, encoding):
    text = BASE.replace('…', '.')*500
    text = text.replace('«', '"').replace('»', '"').replace('—', '-')
    (tmp_path/'x.txt').write_bytes(text.encode(encoding)); (tmp_path/'y.txt').write_bytes(text.encode())
    a, b = report([tmp_path/'x.txt'], [folder], encoding=encoding), report([tmp_path/'y.txt'], [folder])
    assert {**a[0], 'file': ''} == {**b[0], 'file': ''}


def test_no_such_file_a_folder_and_nothing(folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match='there is no file .*none.txt'): report([tmp_path/'none.txt'], [folder])
    with pytest.raises(IsADirectoryError, match='is a folder'): report([tmp_path], [folder])
    with pytest.raises(ValueError, match='at least one text file'): report([], [folder])
    with pytest.raises(ValueError, match='at least 1 character'): report([tmp_path/'x'], [folder], limit=0)
    monkeypatch.setattr(V, '_stock', dict)
    with pytest.raises(ValueError, match='at least one tokenizer'): report([tmp_path/'x'])


def test_a_broken_name_is_said_before_any_file_is_read(tmp_path):
    with pytest.raises(ValueError, match='no tokenizer'): report([tmp_path/'none.txt'], ['nobody'])

def test_a_view_without_room_or_tokenizers_is_refused():
    with pytest.raises(ValueError, match='width of at least 1'): draw('привет', {'64k': 'hyperlex-64k'}, width=0)
    with pytest.raises(ValueError, match='needs a tokenizer'): draw('привет', {})

def test_a_folder_for_the_view_is_refused_before_anything_is_counted(tmp_path):
    (tmp_path/'a.txt').write_text('Снег.', encoding='utf-8')
    with pytest.raises(IsADirectoryError, match='name a file'): report([tmp_path/'missing.txt'], out=tmp_path)
    with pytest.raises(ValueError, match='empty'): load('')

def test_utf_32_is_told_from_utf_16(tmp_path):
    (tmp_path/'a.txt').write_bytes('Снег шёл всю ночь.'.encode('utf-32'))
    with pytest.raises(ValueError, match='try encoding utf-32'): report([tmp_path/'a.txt'])
    assert report([tmp_path/'a.txt'], encoding='utf-32')[0]['words'] == 4
