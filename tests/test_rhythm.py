"Rhythm: stress with its certainty, metre beyond chance, rhyme; torch is left as it was; hostile text."
import json, re
from importlib.resources import files
import numpy as np
import pytest
pytest.importorskip('silero_stress', reason='silero-stress is not installed')
import hyperlex_nb.rhythm as R
from hyperlex_nb.forms import words
from hyperlex_nb.rhythm import METRES, accented, rhythm, syllables

IAMB = 'Мороз сковал глухой залив,\nи лодки спят у старой дамбы,\nа ветер, голову склонив,\nслагает медленные ямбы.'
VERSE = dict(iamb=IAMB, trochee='Скачет дождик по дорожке,\nмочит шляпы, мочит кошек,\nстукнул в тёмное окошко,\nнасмешил до слёз матрёшек.',
    dactyl='Тихо качается лодка у берега,\nсонные волны бормочут во мгле,\nстарая песня, пропетая бережно,\nдолго живёт на холодной земле.',
    amphibrach='Дорога уходит за дальние горы,\nгде ветер гоняет сухую траву,\nгде снятся селеньям пустые просторы,\nа людям не верится, что наяву.',
    anapaest='Над рекой поднимается белый туман,\nна болоте кричит одинокая птица,\nи как будто из дальних, неведомых стран\nнам сегодня письмо обещает присниться.')
HOSTILE = ['', ' ', '\n\n\n', 'SELECT * FROM t;\nDROP TABLE t;\n', '🌲🌲\n🌲', 'а+б=в', '\u0301\n\u0301а', 'е\u0308лка\nй', 'ААААААА\nЫЫЫЫ', 'нуль\0внутри\nда', 'Молоко\nХлеб\nСпички', '1\n2\n3', 'кв\nвгд', '漢字\nشعر', '-\n- а-\n', 'x\u2028y', 'Богъ далъ,\nБогъ и взялъ', 'а' * 70 + '\n' + 'б' * 70]

def one(text, **kw): return next(rhythm([text], **kw))

# --- stress ------------------------------------------------------------------------------------

@pytest.mark.parametrize('word, shape', {'корова': 'uSu', 'Молоко': 'uuS', 'ДЕРЕВНЯ': 'uSu', 'самолёт': 'uuS', 'снег': 'm', 'на': '?', 'она': 'u?', 'или': '?u', 'замок': '??', 'за\u0301мок': 'Su', 'замо\u0301к': 'uS', 'hello': '', '': '', 'кв': '', '2024': '',
                                         'северо-западный': 'SuuSuu', 'кто-то': '??', 'е\u0308лка': 'Su', 'и\u0306од': 'm'}.items())
def test_syllables(word, shape): assert syllables([word]) == [shape]

def test_as_many_letters_as_vowels():
    ws = [w for t in [*VERSE.values(), *HOSTILE] for w in words(t)[0]]
    for w, s in zip(ws, syllables(ws)): assert set(s) <= set('Sum?') and len(s) == len(re.findall('[аоуыэиеяёю]', w.lower().replace('е\u0308', 'ё'))), w

def test_each_distinct_word_once(monkeypatch):
    calls, real = [], R._silero()
    class Counted:
        homosolver = real.homosolver
        def accentor(self, text): calls.extend(text.split(' ')); return real.accentor(text)
    monkeypatch.setattr(R, '_silero', lambda: Counted()); monkeypatch.setattr(R, '_known', {})
    first = syllables(['мама', 'Мыла', 'раму', 'мама', 'раму-мыла'])
    assert sorted(calls) == ['мама', 'мыла', 'раму'] and first[0] == first[3]
    assert syllables(['мама', 'РАМУ']) == [first[0], first[2]] and len(calls) == 3
    for batch in (['молоко'], ['корова', 'молоко']): assert syllables(batch)[-1] == 'uuS', 'the shape does not depend on the batch'

def test_torch_is_left_as_it_was():
    torch = pytest.importorskip('torch')
    R._silero.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        R._silero()
        assert torch.is_grad_enabled() and torch.get_num_threads() == 2
    finally: torch.set_num_threads(threads)

def test_no_network(monkeypatch):
    import socket
    def refuse(*a, **k): raise AssertionError('touched the network')
    monkeypatch.setattr(socket.socket, 'connect', refuse)
    R._silero.cache_clear()
    assert one(IAMB)['metre'] == 'iamb'

def test_without_the_package(monkeypatch):
    R._silero.cache_clear()
    monkeypatch.setattr(R.importlib.util, 'find_spec', lambda name: None); monkeypatch.setattr(R, '_known', {})
    with pytest.raises(ImportError, match='pip install silero-stress'): syllables(['корова'])
    R._silero.cache_clear()

def test_accented():
    assert next(accented(['Старинный замок стоял на холме, а на двери висел ржавый замок.'])) == 'Стари́нный за́мок стоя́л на холме́, а на двери́ висе́л ржа́вый замо́к.'.replace('́', '\u0301')
    for t in ('2+2=4', 'c++ и +', '', 'hello\n\nworld ', '🌲 да'): assert next(accented([t])).replace('\u0301', '') == t
    long = 'Мама мыла раму. '*400 + 'я'*5000 + ' да'
    assert next(accented([long])).replace('\u0301', '') == long, 'nothing is lost where a long text is cut'

# --- metre -------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', VERSE)
def test_metre(name):
    r = one(VERSE[name])
    assert r['metre'] == name and r['score'] > r['chance'] and r['lines'] == 4

def test_verse_in_one_line_and_shuffled_words_are_prose():
    assert one(IAMB.replace('\n', ' '))['metre'] == 'prose'
    rng = np.random.default_rng(0)
    ws = [w for t in VERSE.values() for w in words(t)[0]]
    found = []
    for _ in range(60):
        mixed = rng.permutation(ws)[:40].tolist()
        found.append(one('\n'.join(' '.join(mixed[i:i + 4]) for i in range(0, 40, 4)))['metre'])
    assert found.count('prose') >= 57, 'words of verse in any order are no verse'

def test_layout_does_not_matter():
    r = one(IAMB)
    for t in (IAMB.replace('\n', '\r\n'), IAMB.replace('\n', '\n\n'), '  ' + IAMB.replace('\n', '\n\t') + '\n', IAMB.upper(), IAMB.replace(',', ' —')): assert one(t) == r

def test_numbers():
    r = one(IAMB)
    assert (r['feet'], r['rhyme']) == (4, 'abab') and 0 < r['stressed'] < 1 and r['deviation'] < 1
    assert one(VERSE['amphibrach'])['rhyme'] == 'abab', 'горы is decided by the metre'
    p = one('Комиссия рассмотрела документы.')
    assert p['metre'] == 'prose' and p['rhyme'] == '' and p['feet'] == 0 and p['interval'] > 2
    assert one('')['stressed'] == 0 and one('')['lines'] == 0

@pytest.mark.parametrize('a, b, yes', [('дорожке', 'окошке', True), ('мороз', 'роз', True), ('окно', 'давно', True), ('окно', 'ведро', False), ('вода', 'беда', True), ('вода', 'гора', False), ('зуб', 'суп', True), ('смеётся', 'бьётся', True), ('бояться', 'смеяться', True), ('чужого', 'готова', False), ('кошка', 'собака', False)])
def test_rhyme(a, b, yes):
    ends = [R._ending(w, s, [True]*len(s)) for w, s in zip((a, b), syllables([a, b]))]
    assert (ends[0] == ends[1]) is yes, ends

def test_a_word_does_not_rhyme_with_itself(): assert R._scheme([['дом'], ['дом'], ['том']], ['ом', 'ом', 'ом'])[0] == '-'

@pytest.mark.parametrize('text', HOSTILE)
def test_hostile(text):
    r = one(text)
    assert r['metre'] in (*METRES, 'prose') and json.loads(json.dumps(r)) == r
    if text in ('', ' ', '\n\n\n'): assert r['lines'] == 0

def test_bad_input():
    with pytest.raises(ValueError, match='text 1 has a lone surrogate'): list(rhythm(['да', '\ud800']))
    with pytest.raises(TypeError, match=r'pass \[text\]'): list(rhythm('да'))
    with pytest.raises(TypeError, match='text 0 is NoneType'): list(rhythm([None]))

def test_long_text_is_cut(monkeypatch):
    seen, real = [], R.syllables
    monkeypatch.setattr(R, 'syllables', lambda ws: seen.append(len(ws)) or real(ws))
    r = one((IAMB + '\n')*2000)
    assert r['metre'] == 'iamb' and sum(seen) < 5000
    assert one('слово '*1_700_000)['metre'] == 'prose'

def test_gold_verse():
    path = files('hyperlex_nb')/'assets'/'gold'/'scenes.jsonl'
    if not path.is_file(): pytest.skip('the gold set is not here')
    gold = [json.loads(l) for l in path.read_text('utf-8').splitlines()]
    found = [r['metre'] for r in rhythm([g['text'] for g in gold])]
    assert np.mean([f == g['labels']['rhythm'] for f, g in zip(found, gold)]) > .97
