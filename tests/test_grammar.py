"The lossy ladder: rules that keep what turns a meaning round, edits that undo them to the letter, contrasts."
import itertools, json, math
import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from hyperlex_nb import grammar, restoration
from hyperlex_nb.contrasts import KINDS, Contrast, contrasts, kept, preferred
from hyperlex_nb.forms import words
from hyperlex_nb.grammar import ROLES, STAGES, Mixture, Telegraph, telegraph
from hyperlex_nb.restoration import Restorer, RestorerConfig, Symbols, edits, fit, undo

SAY = 'Она сказала, что не приехала бы в большой белый дом, если бы не дети и старая собака.'
HOSTILE = ['', ' ', '\n', 'А', 'и', 'И.', '  Он!  ', 'не не и и в', 'ÄÖÜ и ß', 'İi и ǅ', 'в 3,5 раза — «и»…', 'табл\t|1|\nи', 'Кто-то ИЗ-ЗА ё\u0301 е\u0308', 'ДОМА и дОМа', 'и\n\n\nи',
           'звѣрь и міръ', 'a\u200bи\u00adи', '👩‍👩‍👧 и 👍🏽', 'if (x) { y = "и"; }', '| и | в |\n|---|---|', 'ж'*200 + ' и ' + 'о'*70, '\u0301и', 'по-русски-и-по-английски-и-всё', '\r\nи\r\n', 'и\x00в']
LEVELS = [Telegraph(n) for n in (1, 2, 3, 4)]
ALONE = [Telegraph(4, s) for s in STAGES]

def original(t): return ''.join(s + w for s, w in zip(t.seps, [*t.words, '']))
def bag(text): return words(text)[0]

@pytest.mark.parametrize('text', HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize('t', LEVELS + ALONE, ids=repr)
def test_a_telegram_and_its_edits_are_the_text(t, text):
    got = next(t.read([text]))
    assert original(got) == text
    assert undo(got.shown, got.gaps, edits(got)) == text

@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from('аеёинАЕЁИН  .,—-«»\n1ñ\u0301'), max_size=60), st.sampled_from(LEVELS))
def test_any_string_comes_back(text, t):
    got = next(t.read([text]))
    assert undo(got.shown, got.gaps, edits(got)) == text

@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from('он она не и в дом большой дома пришла пришёл Дети старая если бы что, . —'.split() + ['Москва', 'США', 'ещё', 'еще', 'кто-то']), max_size=25), st.sampled_from(LEVELS))
def test_symbols_hold_every_edit(ws, t):
    "Through ids of a small symbol list, where most is spelled in bytes, the text still comes back."
    symbols = Symbols.build([[['<same>', '<end>', 'w:и', 'w:и', 't:NOUN,inan,masc sing,gent']]], least=2)
    got = next(t.read([' '.join(ws)]))
    n = len(got.shown)
    ids = [symbols.encode(e, got.words[got.kept[k]] if k < n else '') for k, e in enumerate(edits(got))]
    assert undo(got.shown, got.gaps, [symbols.decode(i) for i in ids]) == original(got)

@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_pieces_spell_any_word(word):
    symbols = Symbols.build([[[f'w:{w}', '<same>'] for w in 'дерево деревня деревянный перемена перепись ÄÖÜßäöü 日本語日本 '.split()]], least=99, pieces=300)
    assert symbols.longest > 1 and len(symbols.spell('деревня')) < len('деревня'.encode())
    assert symbols.decode([symbols.ids['<w>'], *symbols.spell(word), symbols.ids['</>'], symbols.ids['<same>']]) == [f'w:{word}', '<same>']

def test_nothing_taken_is_the_text():
    for text in HOSTILE: assert telegraph(text, 1, []) == text

def test_words_that_turn_a_meaning_stay_to_level_three():
    for w in 'не если бы или но нельзя должен'.split():
        text = f'Вчера {w} пришла старая собака'
        assert w[:4] in telegraph(text, 3, 'function'), w
        assert w not in telegraph(text, 4, 'function').split(), w

def test_a_role_is_a_reading_not_a_string():
    "The noun *мочь* and the verb *мочь* share their letters; only the verb is modal."
    assert grammar._role('мочь', 'NOUN,inan,femn sing,nomn') is None
    assert grammar._role('мочь', 'VERB,impf,intr sing,3per,pres,indc') == 'modality'
    assert grammar._role('над', 'PREP') == 'place' and grammar._role('в', 'PREP') == 'government'

def test_roles_grow_with_the_level():
    drops = [t.drops for t in LEVELS]
    assert all(a < b for a, b in zip(drops, drops[1:])) and drops[-1] == set(ROLES)

def test_agreement_is_taken_only_beside_its_partner():
    one = lambda s: telegraph(s, 3, 'agreement')
    assert one('в большого белого дома') == 'в большой белый дома'
    assert one('большого, дома') == 'большого, дома'
    assert one('большого мамы') == 'большого мамы', 'they do not agree'
    assert one('она пришла') == 'она пришёл'
    assert telegraph('она пришла домой', 2, ['function', 'agreement']).strip() == 'пришла домой', 'the subject is gone: the verb alone tells who'

def test_order_moves_what_is_free_and_nothing_else():
    assert telegraph('сказал он', 3, 'order') == 'он сказал'
    assert telegraph('дом большой стоял', 3, 'order') == 'большой дом стоял'
    assert telegraph('дом большой горы', 3, 'order') == 'дом большой горы'
    assert telegraph('сказал, он', 3, 'order') == 'сказал, он'
    assert telegraph('мать любит дочь', 3, 'order') == 'мать любит дочь'

def test_numbers_and_sentences_survive_marks():
    assert telegraph('Стоит 3,5 рубля (в 12:30)! «Да» — нет?', 3, 'marks').split() == 'стоит 3,5 рубля в 12:30! да нет?'.split()

def test_code_and_tables_pass_untouched():
    code = 'Так пишут:\n  for (i = 0; i < n; i++) { x += "и, не"; }\n| и | в |\nThis line is in English, and it stays.\nи всё.'
    for t in LEVELS: assert next(t([code])).splitlines()[1:4] == code.splitlines()[1:4]

def test_old_spelling_and_noise_are_left_alone():
    assert telegraph('звѣрь міръ съѣлъ', 3) == 'звѣрь міръ съѣлъ'
    assert 'прнвет' in telegraph('Прнвет, мнр', 3)

def test_a_long_paragraph_without_a_full_stop():
    text = 'и большой дом на горе, ' * 20_000
    assert telegraph(text, 3).split() == ['большой', 'дом', 'гора'] * 20_000

def test_context_decides_between_readings():
    class Says:
        def read(self, texts): return ([('быть', 'VERB,impf,intr sing,3per,pres,indc') if w == 'есть' else ('дом', 'NOUN,inan,masc sing,nomn') for w in words(t)[0]] for t in texts)
    assert telegraph('есть дом', 3, 'function') == 'есть дом'
    assert telegraph('есть дом', 3, 'function', Says()).strip() == 'дом'

def test_code_passes_untouched_in_context_too():
    "The tagger is asked about sentences only, and its readings stay with their words."
    class Says:
        def read(self, texts): return ([('быть', 'VERB,impf,intr sing,3per,pres,indc') if w == 'есть' else (w.lower(), 'UNKN') for w in words(t)[0]] for t in texts)
    code = 'Так пишут цикл:\nfor (i = 0; i < n; i++) { x += "и, есть"; }\nи есть дом.'
    got = next(Telegraph(3, 'function', Says()).read([code]))
    assert str(got).split('\n')[1] == code.split('\n')[1] and 'есть' not in str(got).split('\n')[2]
    assert undo(got.shown, got.gaps, edits(got)) == code

@pytest.mark.parametrize('kw, says', [(dict(level=5), '1, 2, 3 or 4'), (dict(level=True), '1, 2, 3 or 4'), (dict(stages=['stem']), "no stage 'stem'"), (dict(stages='lemma'), "no stage 'lemma'")])
def test_a_wrong_setting_is_named(kw, says):
    with pytest.raises(ValueError, match=says): Telegraph(**kw)

def test_a_lone_surrogate_and_no_string_are_refused():
    with pytest.raises(ValueError, match='surrogate'): telegraph('дом \ud800')
    with pytest.raises(TypeError, match='string'): telegraph(None)

def test_mixture_is_drawn_by_its_seed():
    texts = [SAY]*40
    a, b, c = (list(Mixture(LEVELS, s)(texts)) for s in (1, 1, 2))
    assert a == b != c and set(a) == {telegraph(SAY, n) for n in (1, 2, 3, 4)}
    assert repr(Mixture(LEVELS, 1)) != repr(Mixture(LEVELS[:2], 1)), 'a packed corpus is known by it'

# --- the restorer

TEXTS = ['Большая собака пришла в старый дом.', 'Он не видел белого дома на горе, и она его не видела.', 'Дети читали новые книги в школе.', 'Старые дома стоят у реки.'] * 6
@pytest.fixture(scope='module')
def tiny():
    ts = [Telegraph(3), Telegraph(3, 'lemmas')]
    symbols = Symbols.build([edits(g) for t in ts for g in t.read(TEXTS)], least=1)
    return fit(lambda: TEXTS, ts, symbols, steps=120, batch=8, width=64, reader=1, writer=1, slots=8, lr=2e-2), ts

def test_a_restorer_learns_what_it_saw(tiny):
    model, (t3, _) = tiny
    got, want = model.restore(t3(TEXTS[:4]), t3), TEXTS[:4]
    assert sum(a == b for a, b in zip(got, want)) >= 3, got
    uniform = math.log2(len(model.symbols)) * sum(len(e) for g in t3.read(TEXTS[:4]) for e in edits(g))
    assert model.bits(t3.read(TEXTS[:4]), t3).sum() < uniform/10

def test_bits_do_not_depend_on_the_batch(tiny):
    model, (t3, _) = tiny
    a, b = (model.bits(t3.read(TEXTS[:6]), t3, batch=n) for n in (1, 6))
    assert np.allclose(a, b, rtol=.02)

def test_bits_are_a_distribution(tiny):
    "At the first edit of a window the probabilities of all symbols add up to one."
    model, (t3, _) = tiny
    row = next(restoration._windows(next(t3.read(TEXTS[:1])), t3, model.symbols, 8, model.config.table))
    rows = [dict(row, edits=[0, k], at=row['at'][:1]) for k in range(len(model.symbols))]
    with torch.inference_mode(): nats = torch.cat([model(**restoration._collate(rows[i:i+256]))[:, 0] for i in range(0, len(rows), 256)])
    assert torch.exp(-nats.double()).sum().item() == pytest.approx(1, abs=1e-3)

def test_fit_is_told_apart_by_its_seed_only():
    t = [Telegraph(3)]
    symbols = Symbols.build([edits(g) for g in t[0].read(TEXTS)], least=1)
    made = [fit(lambda: TEXTS, t, symbols, steps=3, batch=4, width=32, reader=1, writer=1, slots=8, seed=s) for s in (0, 0, 1)]
    a, b, c = (m.embed_edit.weight for m in made)
    assert torch.equal(a, b) and not torch.equal(a, c)

def test_the_cost_of_a_step_is_foretold():
    "The experiment `ladder` sets the steps of the restorer by it, so that it spends what the language model spent."
    t = [Telegraph(3)]
    symbols = Symbols.build([edits(g) for g in t[0].read(TEXTS)], least=1)
    sizes = dict(batch=4, width=32, reader=1, writer=1, slots=8)
    spent = fit(lambda: TEXTS, t, symbols, steps=32, **sizes).config.trained['flops']
    assert restoration.step_flops(lambda: TEXTS, t, symbols, **sizes) == pytest.approx(spent/32, rel=.05)

def test_saved_and_loaded_is_the_same(tiny, tmp_path):
    model, (t3, _) = tiny
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['config.json', 'model.safetensors']
    assert (Restorer.load(tmp_path).bits(t3.read(TEXTS[:3]), t3) == model.bits(t3.read(TEXTS[:3]), t3)).all()
    (tmp_path/'model.safetensors').write_bytes((tmp_path/'model.safetensors').read_bytes()[:500])
    with pytest.raises(ValueError, match='cut short'): Restorer.load(tmp_path)

@pytest.mark.parametrize('text', HOSTILE, ids=range(len(HOSTILE)))
def test_restore_survives_anything(tiny, text):
    model, (t3, _) = tiny
    assert isinstance(model.restore([text], t3)[0], str)

def test_flops_are_those_that_torch_counts(tiny):
    from torch.utils.flop_counter import FlopCounterMode
    model, (t3, _) = tiny
    x = restoration._collate([w for g in t3.read(TEXTS[:4]) for w in restoration._windows(g, t3, model.symbols, 8, model.config.table)])
    with FlopCounterMode(display=False) as f, torch.inference_mode(): model(**x)
    assert model.flops(*x['words'].shape[:2], x['at'].shape[1]) == pytest.approx(f.get_total_flops(), rel=.03)

# --- contrasts

def test_contrasts_differ_in_one_word():
    texts = ['Он не пришёл вчера домой. Она читает большое письмо. Мы поехали бы вчера к вам домой. Вчера он купил книгу на рынке.']
    made = {k: contrasts(texts, k) for k in KINDS}
    assert made['negation'] == [Contrast('negation', 'Он не пришёл вчера домой.', 'Он пришёл вчера домой.')]
    assert made['tense'][0].other == 'Она читала большое письмо.'
    assert made['condition'][0].other == 'Мы поехали вчера к вам домой.'
    assert all(len(set(bag(c.text)) ^ set(bag(c.other))) == 2 for c in made['number'])
    with pytest.raises(ValueError, match='negation, number'): contrasts(texts, 'irony')

def test_what_a_stage_takes_is_not_kept(tiny):
    pairs = [Contrast('number', 'Он купил книгу.', 'Он купил книги.'), Contrast('negation', 'Он не пришёл домой.', 'Он пришёл домой.')]
    assert kept(pairs, Telegraph(3)) == [False, True] and kept(pairs, Telegraph(4)) == [False, False] and kept(pairs, Telegraph(1)) == [True, True]
    model, (t3, _) = tiny
    assert preferred(pairs, t3, model)[1] == 1. and preferred(pairs, t3, model)[0] in (0., 1.)
