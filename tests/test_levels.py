"Levels of checking: every answer is right by another way of solving, nothing trivial beats chance, the sides share no word, marks mean what they say"
import re, zlib
from collections import Counter
import numpy as np, pytest, torch
from hyperlex_nb.forms import _morph
from hyperlex_nb.levels import LEVELS, Question, check, questions, scores, trivial, _BASE, _PEOPLE, _judge, _listed, _words
from hyperlex_nb.model import baseline_config, build
from hyperlex_nb.pairs import sentence_bits
from hyperlex_nb.tokenizer import train_tokenizer

KINDS = [(level, kind) for level, kinds in LEVELS.items() for kind in kinds]
SETS = 24


@pytest.fixture(scope='module')
def held(): return {(l, k): questions(l, SETS, kinds=[k]) for l, k in KINDS}

def sets(qs):
    out = {}
    for q in qs: out.setdefault((q.level, q.kind, q.group), []).append(q)
    return list(out.values())


@pytest.mark.parametrize('level, kind', KINDS)
def test_every_answer_is_right_equally_often_in_a_set(held, level, kind):
    qs = held[level, kind]
    assert len(sets(qs)) == SETS and {(q.level, q.kind) for q in qs} == {(level, kind)}
    for group in sets(qs):
        assert len({q.options for q in group}) == 1 and len(set(group[0].options)) == len(group[0].options) >= 2
        assert set(Counter(q.answer for q in group).values()) == {len(group)//len(group[0].options)}
    assert len({(q.text, q.options) for q in qs}) == len(qs), 'none twice'
    for q in qs: assert q.text.count('___') == 1 and q.right == q.text.replace('___', q.options[q.answer]) and '  ' not in q.text and '{' not in q.right


def test_the_same_arguments_give_the_same_questions():
    a = questions('analogy', 8, seed=3)
    assert a == questions('analogy', 8, seed=3) != questions('analogy', 8, seed=4)
    assert {q.kind for q in questions('probe', 5)} == set(LEVELS['probe'])


# every answer, solved in another way

def tags(form, lemma):
    "(number, case) that the form can be of that lemma"
    return {(p.tag.number, p.tag.case) for p in _morph().parse(form) if p.normal_form == lemma and p.tag.POS == 'NOUN'}

def first(word): return _morph().parse(word)[0]

def solve(q):
    "Places of the answers that an independent reader finds right"
    t, o = q.text, q.options
    if q.kind == 'gender':
        g = next(p.tag.gender for p in _morph().parse(t.rstrip('.').split()[-1]) if p.tag.POS == 'NOUN' and p.tag.case == 'nomn')
        return [i for i, x in enumerate(o) if any(p.tag.POS == 'ADJF' and p.tag.gender == g and p.tag.case == 'nomn' for p in _morph().parse(x))]
    if q.kind == 'case':
        case = dict(без='gent', возле='gent', к='datv', над='ablt', перед='ablt')[t.split()[-2]]
        return [i for i, x in enumerate(o) if any(p.tag.POS == 'NOUN' and p.tag.case == case and p.tag.number == 'sing' for p in _morph().parse(x))]
    if q.kind == 'number':
        noun = o[0]
        want = {'один': ('sing', 'nomn'), 'одна': ('sing', 'nomn'), 'одно': ('sing', 'nomn')} | dict.fromkeys(['два', 'две', 'три', 'четыре'], ('sing', 'gent'))
        n = t.split()[1]
        if n in ('один', 'одна', 'одно'): assert first(n).tag.gender == next(p.tag.gender for p in _morph().parse(noun) if p.tag.case == 'nomn' and p.tag.POS == 'NOUN')
        return [i for i, x in enumerate(o) if want.get(n.rstrip('.'), ('plur', 'gent')) in tags(x, noun)]
    if q.kind == 'thing':
        kinds = {k for w, k in _listed('concrete') if any(p.normal_form == w for p in _morph().parse(t.split()[0]))}
        return [o.index('можно' if k == 'concrete' else 'нельзя') for k in kinds]
    if q.kind == 'shade':
        return [i for i, x in enumerate(o) for w, c in _listed('colour') if w == t.split()[0].lower() and first(x).normal_form == _BASE[c]]
    if q.kind == 'meaning':
        return [i for i, x in enumerate(o) for w, c in _listed('colour') if w == t.split(' = ')[1].split(' : ')[0] and x == _BASE[c]]
    if q.kind in ('rule', 'denial'):
        one = lambda many: next(w for w in _PEOPLE if any(p.normal_form.replace('ё', 'е') == w.replace('ё', 'е') and p.tag.number == 'plur' for p in _morph().parse(many)))
        yes = {one(a): one(b) for a, b in re.findall(r'Все (\w+) — (\w+)\.', t)}
        no = dict(re.findall(r'Ни один (\w+) не (\w+)\.', t))
        who = re.findall(r'\. (\w+) — (\w+)\. Значит', t)[0]
        assert f'Значит, {who[0]} — ___' in t
        return [o.index(yes[who[1]] if who[1] in yes else f'не {no[who[1]]}')]
    if q.kind == 'order':
        lemma = lambda w: next(p.normal_form for p in _morph().parse(w) if {'Name', 'masc'} <= p.tag.grammemes)
        older = {(lemma(a), lemma(b)) if r == 'старше' else (lemma(b), lemma(a)) for a, r, b in re.findall(r'(?:^|\. )(\w+) (старше|младше) (\w+)', t.replace('. Значит', '.. Значит'))}
        older |= {(a, d) for a, b in older for c, d in older if b == c}
        x, y = (lemma(w) for w in re.findall(r'Значит, (\w+) ___ (\w+)', t)[0])
        assert ((x, y) in older) != ((y, x) in older)
        return [o.index('старше' if (x, y) in older else 'младше')]
    if q.kind == 'truth':
        denials = t.startswith('Неверно') + (' — не ' in t)
        return [i for i, x in enumerate(o) if x.startswith('не ') == (denials == 1)]
    *shown, asked = [[w.strip(' .') for w in row.split(' : ')] for row in t.split(' = ')]
    for at in range(1, len(asked) - 1): assert all(tags(row[at], row[0]) & tags(asked[at], asked[0]) for row in shown)
    return [i for i, x in enumerate(o) if set.intersection(tags(x, asked[0]), *(tags(row[-1], row[0]) for row in shown))]

@pytest.mark.parametrize('level, kind', KINDS)
@pytest.mark.parametrize('side', ['held', 'train'])
def test_another_way_of_solving_finds_the_same_answer_and_only_it(held, level, kind, side):
    for q in held[level, kind] if side == 'held' else questions(level, SETS, kinds=[kind], side='train', seed=1, among=2): assert solve(q) == [q.answer], q


# trivial answers, and leaks

@pytest.mark.parametrize('level, kind', KINDS)
def test_trivial_answers_stay_at_chance(held, level, kind):
    qs = held[level, kind]
    chance, counts = 1/len(qs[0].options), Counter(w for q in qs for s in q.sentences for w in _words(s))
    for way, marks in trivial(qs, counts).items():
        assert np.mean(marks) == pytest.approx(chance, abs=1e-9 if way in ('shortest', 'commonest', 'frequent') else .02), way
    blind = np.mean([float(max(q.options, key=lambda o: zlib.crc32(o.encode())) == q.options[q.answer]) for q in qs])
    assert blind == pytest.approx(chance), 'whatever looks at the answers alone gets exactly chance'


def test_unbalanced_questions_would_be_seen():
    "The copied ending is a strong answer to analogies that nobody balanced"
    qs = questions('analogy', 200, kinds=['bridge'], side='train', among=1)
    assert trivial(qs)['ending'].mean() > .4
    assert set(trivial(qs)) == {'shortest', 'commonest', 'words', 'letters', 'ending'}


def test_the_sides_share_no_word_but_those_of_the_frames():
    frames = set(_words(' '.join('''перед нами вот это дело не обошлось без мы стояли возле всё сводится к вернулись смеялись над здесь один одна одно два две три четыре пять шесть семь десять
        можно нельзя сфотографировать снять на плёнку нарисовать с натуры цвет есть оттенок из оттенков все ни значит старше младше верно неверно что'''.split())))
    frames |= {f.word for base in _BASE.values() for f in first(base).lexeme}
    words = {side: {w for level in LEVELS for seed in (0, 1) for q in questions(level, 12*len(LEVELS[level]), seed, side, among=1) for s in q.sentences for w in _words(s)} - frames for side in ('held', 'train')}
    assert not words['held'] & words['train'] and min(map(len, words.values())) > 500
    stems = {side: {w[:4] for w in ws if len(w) > 6} for side, ws in words.items()}
    assert len(stems['held'] & stems['train']) < .02*len(stems['held']), 'nor relatives, but for vowels that come and go'


# marks

def made(k=2, groups=30): return [Question('probe', 'x', f'{g} {i} ___', tuple('абвг'[:k]), i, g) for g in range(groups) for i in range(k)]

def test_marks_of_oracle_liar_and_blind():
    qs, rng = made(3), np.random.default_rng(0)
    right = [np.array([5. + (j != q.answer) for j in range(3)]) for q in qs]
    blind = {g: rng.random(3) for g in range(30)}
    for bits, want in (right, (1, 1, 1)), ([-b for b in right], (0, 0, 0)), ([blind[q.group] for q in qs], (1/3, 1/3, 0)):
        m = _judge(qs, bits)
        assert tuple(m[w].mean() for w in ('bits', 'moved', 'whole sets')) == pytest.approx(want)
    liking = [b + 100*blind[q.group] for q, b in zip(qs, right)] # a strong liking hides what the question did, but not from `moved`
    m = _judge(qs, liking)
    assert m['bits'].mean() < .5 and m['moved'].mean() == 1 and m['whole sets'].mean() < .1


def test_the_longer_answer_pays_in_bits_and_not_per_byte():
    qs = [Question('probe', 'x', 'а ___', ('да', 'никогда'), 1, 0)]
    m = _judge(qs, [np.array([10., 12.])])
    assert m['bits'][0] == 0 and m['per byte'][0] == 1


def test_check_asks_for_the_bits_of_sentences():
    qs = questions('probe', 5)
    tok = train_tokenizer([q.right for q in qs], 400)
    model = build(baseline_config(len(tok), 32, 1, 96), 0).eval()
    bits = [sentence_bits(model, tok, q.sentences) for q in qs]
    got = check(model, tok, iter(qs))
    assert (got['bits'] == [float(b.argmin() == q.answer) for q, b in zip(qs, bits)]).all() and set(got) == {'bits', 'per byte', 'moved', 'whole sets'}
    with pytest.raises(ValueError, match='no questions'): check(model, tok, [])
    with pytest.raises(ValueError, match='longer context'): check(build(baseline_config(len(tok), 32, 1, 4), 0), tok, qs)


def test_a_model_that_learns_answers_passes_on_words_it_has_not_seen():
    "Case after a preposition: lessons on one side, questions on the other"
    less, asked = questions('probe', 150, kinds=['case'], side='train', among=1), questions('probe', 30, kinds=['case'])
    tok = train_tokenizer([q.right for q in less], 300)
    model = build(baseline_config(len(tok), 64, 1, 96), 0)
    assert check(model.eval(), tok, asked)['moved'].mean() < .55
    rows = [torch.tensor([tok.eos_token_id, *tok(q.right).input_ids, tok.eos_token_id]) for q in less]
    opt, rng = torch.optim.AdamW(model.parameters(), 4e-3), np.random.default_rng(0)
    for _ in range(120):
        x = torch.nn.utils.rnn.pad_sequence([rows[i] for i in rng.choice(len(rows), 24)], batch_first=True, padding_value=1)
        model(input_ids=x, labels=x.masked_fill(x == 1, -100)).loss.backward(); opt.step(); opt.zero_grad()
    s = scores(asked, check(model.eval(), tok, asked)['moved'])['probe']
    assert s.low > .5 and s.chance == pytest.approx(1/3), s


def test_scores_and_their_intervals():
    qs = made(2, 40) + [Question('analogy', 'y', f'{i} ___', tuple('абвг'), i, 0) for i in range(4)]
    marks = np.array([1., 0.]*40 + [1.]*4)
    s = scores(qs, marks)
    assert s['probe'].value == s['probe'].low == s['probe'].high == .5, 'every set has one of two right: between sets nothing varies'
    assert (s['analogy'].value, s['analogy'].chance, s['analogy'].questions, s['analogy'].sets) == (1, .25, 4, 1) and (s['probe'].chance, s['probe'].sets) == (.5, 40)
    lucky = scores(qs[:80], np.repeat(np.random.default_rng(0).random(40) < .5, 2))['probe']
    assert lucky.low < .5 < lucky.high and .2 < lucky.high - lucky.low < .4
    assert set(scores(qs, marks, 'kind')) == {'x', 'y'} and scores(qs, marks, 'all')['all'].questions == 84
    assert str(s['probe']) == '0.50 [0.50, 0.50]'


@pytest.mark.parametrize('call, says', [(lambda: questions('wisdom'), 'no level'), (lambda: questions('probe', side='dev'), "'held' or 'train'"), (lambda: questions('probe', kinds=['rule']), 'no kind'),
                                        (lambda: questions('probe', 5000, kinds=['thing']), 'ask for fewer'), (lambda: scores(made(), [1.]), 'as many of each'), (lambda: scores([], []), 'at least one'), (lambda: scores(made(), [1.]*60, 'word'), 'expected level')])
def test_bad_requests(call, says):
    with pytest.raises(ValueError, match=says): call()
