"Chunks: the ids alone say where a word ends, and nothing is lost"
import pytest
from transformers import AutoTokenizer
from hyperlex_nb.chunks import CHUNKS, chunk_ends, train_chunks
from hyperlex_nb.tokenizer import encode, train_tokenizer

TEXTS = ['Мама мыла раму, а потом (вечером) читала «Войну и мир».', 'В 1915 году вышла работа о бессознательном; её перевели.\n\nДа?'] * 30
HOSTILE = ['', ' ', '▁▁ ▁а▁', '</w>', 'ё̈ Й e\u0301', '\x00\x01\t\n \r\n x', '👩‍👩‍👧 🇷🇺', 'שלום 你好', 'x_1 = {3.14};', 'а'*300 + '!'*200, '<|endoftext|> <|pad|>', '\u2028\u00a0\ufeff']


@pytest.fixture(scope='module')
def tok(): return train_chunks(iter(TEXTS), 700)


@pytest.mark.parametrize('chunk', [*CHUNKS, r'\p{L}'])
def test_every_string_comes_back_from_the_saved_file(tmp_path, chunk):
    train_chunks(iter(TEXTS), 600, chunk).save_pretrained(tmp_path)
    stock = AutoTokenizer.from_pretrained(tmp_path)
    for t in HOSTILE + TEXTS[:2]: assert stock.decode(stock(t, add_special_tokens=False)['input_ids']) == t
    assert stock.pad_token_id == 1 and stock.eos_token_id == 0


def test_ends_are_where_words_end(tok):
    ends = chunk_ends(tok)
    def cut(text):
        out, row = [], []
        for i in next(encode(tok, [text])):
            row.append(i)
            if ends[i]: out.append(tok.decode(row)); row = []
        assert not row, 'a text ends with a chunk'
        return out
    assert cut('Мама мыла (раму), да!') == ['Мама', ' мыла', ' (', 'раму),', ' да!']
    assert cut('в 19155\n\nгоду') == ['в', ' 191', '55', '\n\n', 'году']
    for t in filter(None, HOSTILE): assert ''.join(cut(t)) == t, 'no mark is missing, and no chunk ends within a letter'
    assert ends[tok.eos_token_id] and not ends[tok.pad_token_id]


def test_size_is_kept_and_bytes_are_there_twice(tok):
    assert len(tok) <= 700 and len(train_chunks(['да'], 514)) <= 514
    vocab = tok.get_vocab()
    assert sum(len(p) == 1 for p in vocab) == 256 and sum(len(p) == 2 and p.endswith('▁') for p in vocab) == 256
    assert sorted(vocab.values()) == list(range(len(tok)))
    assert train_chunks(iter(TEXTS), 700).get_vocab() == vocab, 'the same texts give the same ids'


def test_a_cut_of_a_long_text_changes_no_piece(tok):
    text = ' '.join(TEXTS*60) # longer than what is encoded at once
    assert len(text) > 1 << 16 and next(encode(tok, [text])) == tok(text, add_special_tokens=False)['input_ids']


@pytest.mark.parametrize('texts,size,kw,says', [([], 600, {}, 'texts is empty'), (['', ''], 600, {}, 'texts is empty'), (['да'], 513, {}, 'at least 514'), (['да'], True, {}, 'at least 514'), (['да'], '600', {}, 'at least 514'),
                                               (['\ud800'], 600, {}, 'surrogate'), (['да'], 600, dict(chunk='[а'), "chunk '\\[а'")])
def test_bad_input(texts, size, kw, says):
    with pytest.raises(ValueError, match=says): train_chunks(texts, size, **kw)


def test_an_ordinary_tokenizer_does_not_say():
    with pytest.raises(ValueError, match='train_chunks'): chunk_ends(train_tokenizer(TEXTS, 300))
