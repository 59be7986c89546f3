"Scenes join to the text, codes are stock tokens, the bits of both heads are those of the row."
import numpy as np, pytest, torch
from transformers import AutoTokenizer
from hyperlex_nb.corpus import read
from hyperlex_nb.evaluate import _surprise
from hyperlex_nb.heads import SceneCoder, next_code, scenes, two_bits, write_scene
from hyperlex_nb.model import baseline_config, build
from hyperlex_nb.pretrain import pack
from hyperlex_nb.tokenizer import load_tokenizer

HOSTILE = ['', ' ', '\n\n\n', 'нет конца', 'А.', '...!!!???', 'Раз. Два! Три?\nЧетыре… «Пять.» (Шесть.) 7.5 кг', '🙂\u200d🙂. e\u0301\u202e abc.\r\n\tда', '.' * 500, 'слово ' * 300]


@pytest.fixture(scope='module')
def made(material, tmp_path_factory):
    folder = tmp_path_factory.mktemp('heads')
    coder = SceneCoder.fit((d['text'] for d in read(material/'corpus', 'train')), codes=8)
    tok = coder.tokenizer(load_tokenizer(material/'tok'))
    tok.save_pretrained(folder/'tok'); coder.save(folder/'coder.safetensors')
    return folder, tok, coder, build(baseline_config(len(tok), 32, 1, 64), 0).eval()


@pytest.mark.parametrize('text', HOSTILE)
def test_scenes_join_to_the_text(text, made):
    _, tok, coder, _ = made
    parts = scenes(text, 5)
    assert ''.join(parts) == text and all(len(p.split()) >= 5 for p in parts[:-1])
    ids = next(coder.ids(tok, [text]))
    assert tok.decode([i for i in ids if i < len(tok) - 8]) == text and sum(i >= len(tok) - 8 for i in ids) == len(scenes(text))


def test_codes_are_the_nearest_centres_and_survive_a_file(made):
    folder, _, coder, _ = made
    parts = ['Кошка сидит на окне и смотрит на птиц.', 'Закон принят парламентом в третьем чтении.', '', '12 34']
    again = SceneCoder.load(folder/'coder.safetensors')
    assert list(coder(parts)) == list(again(parts)) and coder([]).shape == (0,)
    v = coder._vectors(parts)
    assert [int(((c - coder.centres)**2).sum(1).argmin()) for c in v] == list(coder(parts)) and np.allclose(np.linalg.norm(v, axis=1), [1, 1, 0, 0], atol=1e-5)
    with pytest.raises(ValueError, match='too few for 64 codes'): SceneCoder.fit(['Одна сцена.'])


def test_the_tokenizer_is_a_stock_one(made, material):
    folder, tok, coder, _ = made
    stock, plain = AutoTokenizer.from_pretrained(folder/'tok'), load_tokenizer(material/'tok')
    text = 'Мама <|scene-3|> мыла раму.'
    assert len(stock) == len(plain) + 8 and stock(text).input_ids == plain(text).input_ids, 'what looks like a code in a text is text'
    with pytest.raises(ValueError, match='codes already'): coder.tokenizer(tok)


def test_packed_rows(made, material, tmp_path):
    folder, tok, coder, _ = made
    m = pack(material/'corpus', folder/'tok', tmp_path/'p', ids=coder.ids)
    row = np.fromfile(tmp_path/'p'/'tokens.bin', m['dtype'])
    want = [i for d in read(material/'corpus', 'train') for i in (*next(coder.ids(tok, [d['text']])), tok.eos_token_id)]
    assert row.tolist() == want and m['vocab_size'] == len(tok)
    again = SceneCoder.load(folder/'coder.safetensors')
    assert pack(material/'corpus', folder/'tok', tmp_path/'p', ids=again.ids) == m, 'the same coder, from its file: nothing to do'
    again.centres = again.centres[::-1].copy()
    pack(material/'corpus', folder/'tok', tmp_path/'p', ids=again.ids)
    other = np.fromfile(tmp_path/'p'/'tokens.bin', m['dtype'])
    first = len(tok) - 8
    assert np.array_equal(np.where(row < first, row, 2*first + 7 - row), other), 'another coder: packed anew, with its codes'


def test_bits_of_two_heads_are_those_of_the_row(made):
    _, tok, coder, model = made
    text = 'Мама мыла раму. ' * 40
    out = two_bits(model, tok, coder, [text])
    whole = _surprise(model, [tok.eos_token_id, *next(coder.ids(tok, [text])), tok.eos_token_id]).sum()
    assert out['codes'] + out['switch'] + out['words'] == pytest.approx(whole, rel=1e-3) and min(out.values()) > 0 and out['scenes'] == len(scenes(text)) and out['bytes'] == len(text.encode())
    with pytest.raises(ValueError, match='no text'): two_bits(model, tok, coder, [])


def test_the_hyper_head_is_the_model_s_own_softmax_given_that_a_code_comes(made):
    _, tok, coder, model = made
    ids = next(coder.ids(tok, ['Мама мыла раму.']))
    p = next_code(model, tok, coder, ids)
    with torch.no_grad(): whole = model(torch.tensor([ids])).logits[0, -1].softmax(0)[-8:]
    assert np.allclose(p, whole/whole.sum(), atol=1e-5)
    text = write_scene(model, tok, coder, 3, ids, limit=10, seed=1)
    assert text == write_scene(model, tok, coder, 3, ids, limit=10, seed=1) and '<|scene' not in text
    with pytest.raises(ValueError, match='expected 0 to 7'): write_scene(model, tok, coder, 8)
