"The fewest pieces: the lattice against a plain shortest path, and what pruning must keep."
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from hyperlex_nb.pieces import UNIT, Lattice, Pieces, Table, _NEVER, _by_length, _spans, choose_words, cut_words, prune

def keys(strings): return np.unique(np.concatenate([list(_spans(x, len(x)))[-1][1][0] for _,x in _by_length(list(strings))]))

def fewest(word, pieces):
    "Plain shortest path; single letters cost one piece if they are pieces, 4 if not"
    best = [0]
    for j in range(1, len(word)+1):
        best.append(min([best[i]+1 for i in range(j) if word[i:j] in pieces] + [best[j-1]+4*(word[j-1] not in pieces)
                                                                                if word[j-1] not in pieces else best[j-1]+1]))
    return best[-1]

WORDS = st.lists(st.text('абвя \U0001f600', min_size=1, max_size=9), min_size=1, max_size=12, unique=True)

@settings(max_examples=150, deadline=None)
@given(WORDS, st.sets(st.text('абвя ', min_size=1, max_size=4), min_size=1, max_size=12))
def test_lattice_equals_the_plain_shortest_path(words, pieces):
    table = Table(keys(pieces))
    price = np.append(np.full(len(table), UNIT), _NEVER)
    for at,x in _by_length(words):
        assert list(Lattice(x, table).best(price)[0]) == [UNIT*fewest(words[i], pieces) for i in at]

@settings(max_examples=100, deadline=None)
@given(WORDS, st.sets(st.text('абвя ', min_size=1, max_size=4), min_size=1, max_size=12))
def test_cuts_joined_give_the_word(words, pieces):
    p = Pieces(sorted(pieces | set('абвя \U0001f600')), np.ones(len(pieces | set('абвя \U0001f600'))))
    for chunk in (3, 1 << 17):
        ids, size = cut_words(words, p, chunk=chunk)
        assert [''.join(p.text[i] for i in part) for part in np.split(ids, np.cumsum(size)[:-1])] == words

def test_what_no_piece_holds_is_one_lost_symbol():
    ids, size = cut_words(['аба', 'ажб', 'а'*30], Pieces(['а', 'б', 'аб'], np.ones(3)))
    assert list(size) == [2, 3, 1] and ids[3] == -1 and ids[-1] == -1

def test_uses_are_weighted():
    p = ['а', 'б', 'аб']
    table = Table(keys(p))
    (_, x), = _by_length(['аба', 'бба'])
    uses = Lattice(x, table).uses(np.append(np.full(3, UNIT), _NEVER), np.array([10., 1.]))
    named = {s: uses[np.searchsorted(table.keys, keys([s])[0])] for s in p}
    assert named == {'а': 11, 'б': 2, 'аб': 10}

def test_prune_keeps_what_it_must_and_the_most_useful():
    words, w = ['стол', 'столы', 'стул', 'стулья'], np.array([50., 20., 5., 1.])
    text = sorted({'стол', 'стул', 'ья', 'лья'} | set(''.join(words)))
    k = keys(text)
    text = sorted(text, key=lambda s: keys([s])[0])
    table = Table(k)
    corpus = [(Lattice(x, table), w[at]) for at,x in _by_length(words)]
    alone = [(at, Lattice(x, table, itself=False)) for at,x in _by_length(text) if len(x) > 1]
    keep = np.array([len(s) == 1 for s in text])
    alive, uses = prune(corpus, alone, keep, keep.sum()+1)
    assert {s for s,a in zip(text, alive) if a and len(s) > 1} == {'стол'} and alive[keep].all()

def test_boundaries_bind_pieces_inside_words():
    types = [a+b+c for a in ('пере', 'вы', 'за') for b in ('ход', 'вод', 'нос', 'бор') for c in ('ами', 'ом', 'ы', 'ить')]
    cut = {a+b+c: (len(a), len(a+b)) for a in ('пере', 'вы', 'за') for b in ('ход', 'вод', 'нос', 'бор') for c in ('ами', 'ом', 'ы', 'ить')}
    got = choose_words(types, np.ones(len(types)), 40, least_types=2, least_uses=2, least_char=1, boundaries=lambda ts: [cut[t] for t in ts])
    parts = {t[i:j] for t,(a,b) in cut.items() for i in (0,a,b) for j in (a,b,len(t)) if i < j}
    assert {p for p in got.text if len(p) > 1} <= parts and len(got) <= 40
    assert {'пере', 'ами'} & set(got.text)

def test_choice_is_the_same_twice_and_saves_tokens():
    rng = np.random.default_rng(0)
    types = sorted({''.join(rng.choice(list('абвгд'), rng.integers(2, 9))) for _ in range(600)})
    uses = rng.integers(1, 50, len(types)).astype(float)
    a, b = (choose_words(types, uses, 120, least_types=4, least_uses=4, least_char=1) for _ in range(2))
    assert a.text == b.text and (a.uses == b.uses).all()
    few = choose_words(types, uses, 20, least_types=4, least_uses=4, least_char=1)
    tokens = [(cut_words(types, p)[1]*uses).sum() for p in (few, a)]
    assert tokens[1] < tokens[0] < (np.array([len(t) for t in types])*uses).sum()

def test_more_types_than_take_part():
    types = [f'{c}{d}' for c in 'абвг' for d in 'абвг']
    got = choose_words(types, np.arange(16.)+5, 30, least_types=2, least_uses=2, least_char=1, max_types=4)
    assert {p for p in got.text if len(p) == 2} <= set(types[-4:])
