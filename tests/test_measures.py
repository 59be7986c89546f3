"""The measures of a cut against values worked out by hand, and on text that tokenizers stumble over."""
import math
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from hyperlex_nb.measures import _from_bytes, border_counts, borders, cut, renyi, words_within
from hyperlex_nb.morphology import Morpheme
from hyperlex_nb.tokenizer import load_tokenizer


@pytest.fixture(scope='module')
def tok(material): return load_tokenizer(material/'tok')


class Table:
    "What `cut` asks of a tiktoken.Encoding, with a token for each `size` bytes."
    def __init__(self, size): self.size = size
    def encode_ordinary_batch(self, texts): return [list(range(-(-len(t.encode()) // self.size))) if (setattr(self, 'text', t) or True) else 0 for t in texts]
    def decode_tokens_bytes(self, ids): return [self.text.encode()[i*self.size:(i+1)*self.size] for i in ids]


HOSTILE = ['', ' ', '\n\n', 'я', 'а\u0301', '👩‍👩‍👧‍👦 семья', '\r\n\tтаб', '<|endoftext|>', 'Zнак 漢字', '\x00', ' ' * 50 + 'конец']


def test_tokens_cover_the_text_in_order(tok):
    for text, (ids, starts, ends) in zip(HOSTILE, cut(tok, HOSTILE), strict=True):
        assert len(ids) == len(starts) == len(ends) and (np.diff(starts) >= 0).all() and (np.diff(ends) >= 0).all()
        covered = np.zeros(len(text), bool)
        for a, b in zip(starts, ends): covered[a:b] = True
        assert covered.all() and (ids >= 256).sum() < len(ids) + 1
    assert all(tok.eos_token_id not in ids for ids, _, _ in cut(tok, ['<|endoftext|>']))


@given(st.text(st.characters(exclude_categories=['Cs']), min_size=1), st.integers(1, 5))
def test_bytes_to_characters(text, size):
    (ids, starts, ends), = cut(Table(size), [text])
    data, at = text.encode(), np.cumsum([0] + [len(c.encode()) for c in text])
    for i, (a, b) in enumerate(zip(starts, ends)):
        first, last = i*size, min((i + 1)*size, len(data)) - 1
        assert at[a] <= first < at[a + 1] and at[b - 1] <= last < at[b]


def test_many_texts_keep_their_order(tok):
    texts = ['раз ' * (i % 5) + 'два' for i in range(200)]
    assert [len(ids) for ids, _, _ in cut(tok, iter(texts), batch=7)] == [len(tok(t).input_ids) for t in texts]
    assert list(cut(tok, [])) == []


def test_words_within_by_hand():
    text = 'Он не  знал.'                                   # tokens: Он| не |_|_знал|.
    starts, ends = np.array([0, 2, 5, 6, 11]), np.array([2, 5, 6, 11, 12])
    assert words_within(text, starts, ends, 1) == (2, 3)     # знал. has its spaces, its letters, its stop
    assert words_within(text, starts, ends, 2) == (2, 3) and words_within(text, starts, ends, 3) == (3, 3)
    assert words_within(text, np.array([0, 5]), np.array([5, 12]), 1) == (3, 3)   # the first token takes two words
    assert words_within(text, np.array([0, 7]), np.array([7, 12]), 1) == (2, 3)   # the third word's spaces lie in another token than its letters
    assert words_within('', np.array([], int), np.array([], int)) == (0, 0)


@given(st.text(' аб\n', max_size=40), st.integers(1, 4))
def test_words_within_is_what_a_loop_says(text, size):
    starts = np.arange(0, len(text), size); ends = np.minimum(starts + size, len(text))
    want, stop = [], 0
    for w in text.split():
        begin, stop = stop, text.index(w, stop) + len(w)
        want.append(sum(a < stop and b > begin for a, b in zip(starts, ends)))
    for most in 1, 2, 3: assert words_within(text, starts, ends, most) == (sum(n <= most for n in want), len(want))


SCHOOL = {'Мыла': 'Мы ла', 'раму': 'рам у', 'я': 'я', 'дом': 'дом'}
def school(words): return [[Morpheme(t, '') for t in SCHOOL[w].split()] for w in words]


def test_borders_by_hand():
    (inside, border), (i2, _), (i3, _) = borders(['Мыла раму-я', '', '2024 !'], school)
    assert np.flatnonzero(inside).tolist() == [1, 2, 3, 6, 7, 8] and np.flatnonzero(border).tolist() == [2, 8]
    assert len(i2) == 0 and not i3.any()
    assert border_counts(np.array([0, 2, 4, 6]), inside, border) == (1, 2, 2)         # cuts 2 and 6, borders 2 and 8
    assert border_counts(np.array([0, 2, 4, 8, 9]), inside, border) == (2, 2, 2)      # exactly the borders
    assert border_counts(np.array([0]), inside, border) == (0, 0, 2)                  # nothing cut
    assert border_counts(np.array([0, 2, 2, 2, 8]), inside, border) == (2, 2, 2)      # parts of one character are one place
    assert border_counts(np.array([0]), *borders(['дом'], school)[0]) == (0, 0, 0)


def test_borders_refuse_morphemes_of_another_word():
    for bad in ('до', 'мик'), ('дом', ''), ('', 'дом'):
        with pytest.raises(ValueError, match='дом'): borders(['дом'], lambda words: [[Morpheme(t, '') for t in bad] for _ in words])


def test_renyi_by_hand():
    assert renyi([[2, 1, 1, 0]], alpha=2)[0] == pytest.approx(math.log(8/3)/math.log(4))
    assert renyi([[2, 1, 1]], alpha=.5)[0] == pytest.approx(2*math.log(.5**.5 + 1)/math.log(3))
    assert renyi([[7, 7, 7]]) == pytest.approx((1, 1, 1)) and renyi([[9, 0]])[0] == pytest.approx(0)
    assert renyi([[1, 1, 0], [1, 0, 1]])[0] == pytest.approx(renyi([[2, 1, 1]])[0])


def test_renyi_interval_is_that_of_resampled_works():
    rng = np.random.default_rng(0)
    counts = np.stack([rng.multinomial(200, rng.dirichlet(np.full(30, .2))) for _ in range(80)])
    value, low, high = renyi(counts)
    boot = [renyi(counts[rng.integers(80, size=80)].sum(0), draws=1)[0] for _ in range(500)]
    assert low < value < high and (high - low) == pytest.approx(np.ptp(np.quantile(boot, [.025, .975])), rel=.25)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 1000), min_size=2, max_size=20).filter(any), st.sampled_from([.3, 2, 2.5, 5]))
def test_renyi_lies_between_zero_and_one(counts, alpha): assert -1e-9 <= renyi(counts, alpha, draws=2)[0] <= 1 + 1e-9


def test_renyi_refuses():
    for bad in 0, 1, -2, float('nan'):
        with pytest.raises(ValueError, match='alpha'): renyi([[1, 2]], alpha=bad)
    for bad in [[0, 0]], [[3]]:
        with pytest.raises(ValueError, match='at least 2 tokens'): renyi(bad)
