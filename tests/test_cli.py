import json, os, subprocess, sys
import pytest
from hyperlex_nb.cli import main


def test_help_does_not_import_heavy_packages():
    code = "import sys\nfrom hyperlex_nb.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint([m for m in ('torch', 'transformers', 'datasets', 'papermill', 'numpy', 'matplotlib', 'pandas') if m in sys.modules])"
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == '[]' and 'run the whole book' in out


def test_installed_command():
    out = subprocess.run([os.path.join(os.path.dirname(sys.executable), 'hyperlex'), '--version'], capture_output=True, text=True, check=True).stdout
    from hyperlex_nb import __version__
    assert out.strip() == f'hyperlex {__version__}'


@pytest.mark.parametrize('args, message', [(['run'], 'name a notebook'), (['run', 'none.ipynb'], 'there is no notebook none.ipynb'), (['run', 'x.ipynb', '-p', 'n'], 'name=value'),
    (['run', '--resume', 'nothing'], 'there is no run'), (['runs', '--where', 'n'], 'name=value'), (['runs', '--diff', 'a', 'b'], "no run 'a'"), (['runs', '--keep', 'a', 'b'], "no run 'a'; `hyperlex runs` lists them"), (['book', '--profile', 'tiny'], 'not one of smoke'),
    (['book', '-p', 'zzz=1'], "no stage of the book has a parameter 'zzz'"), (['corpus', 'nowhere', 'out'], 'nowhere'), (['tokenize', 'nowhere.txt', '--tokenizer', 'zzz'], "no tokenizer 'zzz'")])
def test_a_wrong_request_is_one_line_and_status_2(args, message, tmp_path, capsys):
    assert main([*args, '--runs-dir', str(tmp_path/'runs')]) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) == 1 and not (tmp_path/'runs').exists()


def test_run_table_diff_and_statuses(notebook, tmp_path, capsys):
    nb, runs = str(notebook('t', "n: int = 3  # a\nprofile: str = 'smoke'  # p", "from hyperlex_nb.runs import Run; Run.current().log('x', 1 / n)")), ['--runs-dir', str(tmp_path/'runs')]
    assert main(['run', nb, '-p', 'n=2', '--name', 'a', *runs]) == 0 and main(['run', nb, '--profile', 'cpu', '--name', 'b', *runs]) == 0 and main(['run', nb, '-p', 'n=0', '--name', 'c', *runs]) == 1
    assert 'go on with: hyperlex run --resume c' in capsys.readouterr().out
    assert main(['runs', '--json', '--where', 'status=finished', '--show', 'x', *runs]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r['id'], r['profile'], r['x']) for r in rows] == [('a', 'smoke', .5), ('b', 'cpu', 1 / 3)]
    assert main(['runs', '--diff', 'a', 'b', *runs]) == 0
    assert [l.split() for l in capsys.readouterr().out.splitlines()] == [['name', 'a', 'b'], ['p.n', '2', '3'], ['p.profile', 'smoke', 'cpu'], ['x', '0.5', '0.3333']]


def test_corpus_command_and_slurm(tmp_path, notebook, capsys, monkeypatch):
    (tmp_path/'texts').mkdir()
    for i in range(12): (tmp_path/'texts'/f'{i}.txt').write_text(f'Рассказ номер {i}. ' + ' '.join(f'слово{i}{j}' for j in range(60)) + ' и вся деревня вышла на улицу посмотреть на снег.', encoding='cp1251')
    assert main(['corpus', str(tmp_path/'texts'), str(tmp_path/'out')]) == 0 and (tmp_path/'out'/'manifest.json').exists()
    nb = notebook('s', "n: int = 3  # a")
    assert main(['run', str(nb), '--slurm', str(tmp_path/'job.sh'), '--gpus', '8', '--nodes', '2', '-p', 'n=4']) == 0
    assert '#SBATCH --nodes=2' in (tmp_path/'job.sh').read_text()


def test_tokenize_counts_and_colours_any_file(material, tmp_path, capsys, monkeypatch):
    import io
    from hyperlex_nb.tokenizer import load_tokenizer
    text, tok = 'Бессознательное не спорит: оно повторяет.\n' * 50, str(material/'tok')
    (tmp_path/'a.txt').write_text(text, encoding='utf-8'); (tmp_path/'b.txt').write_text(text, encoding='cp1251')
    n = len(load_tokenizer(tok).encode(text))
    assert main(['tokenize', '--tokenizer', tok, str(tmp_path/'a.txt'), '--json', '--html', str(tmp_path/'a.html'), '--limit', '20']) == 0
    out = capsys.readouterr()
    row, = json.loads(out.out)
    assert (row['tokens'], row['words'], row['tokens_per_word']) == (n, 250, n / 250) and 'a.html: open it' in out.err
    page = (tmp_path/'a.html').read_text(encoding='utf-8')
    assert '<span' in page and page.count('спорит') == 0
    assert main(['tokenize', str(tmp_path/'b.txt'), '--tokenizer', tok, '--encoding', 'cp1251']) == 0
    assert capsys.readouterr().out.split()[-3] == str(n)
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(['tokenize', '-', '--tokenizer', tok, '--json']) == 0 and json.loads(capsys.readouterr().out)[0]['tokens'] == n


@pytest.mark.parametrize('name, args, message', [('b.txt', [], 'is not utf-8 at byte'), ('none.txt', [], 'no file'), ('', [], 'is a folder'), ('b.txt', ['--encoding', 'xyz'], "no encoding 'xyz'")])
def test_tokenize_says_in_one_line_what_is_wrong(material, tmp_path, capsys, name, args, message):
    (tmp_path/'b.txt').write_text('Слово и дело. ' * 30, encoding='cp1251')
    assert main(['tokenize', str(tmp_path/name), '--tokenizer', str(material/'tok'), *args]) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) == 1


PLANS = [('dry', ['--N', '7B', '--gpus', '64', '--architecture', 'core', '--tokens', '1e10'], dict(N='7B', gpus=64, architecture='core', tokens=1e10)), ('model', ['--N', '70B', '--tensor', '8', '--no-checkpointing'], dict(N='70B', tensor=8, checkpointing=False)), ('train', ['--N', '7e10', '--D', '1400e9', '--law', 'besiroglu', '--mfu', '0.35..0.45'], dict(N='70B', D='1.4T', law='besiroglu', mfu='0.35..0.45')),
         ('train', ['--C=5.76e23', '--law=hoffmann', '--gpus', '16384'], dict(C=5.76e23, law='hoffmann', gpus=16_384)), ('corpus', [], {}), ('corpus', ['--pages', '100M', '--tokenizer', 'cl100k'], dict(pages=1e8, tokenizer='cl100k')),
         ('equivalence', ['--N', '30B,70B', '--multiplier', '2.2[1.9,2.6]', '--law', 'besiroglu'], dict(N=['30B', '70B'], multiplier='2.2[1.9,2.6]', law='besiroglu')), ('equivalence', ['--N', '70e9', '--compression', '2', '--bits-ratio', '.8', '--law', 'besiroglu'], dict(N='70B', compression=2, bits_ratio=.8, law='besiroglu')),
         ('route', ['--token-bytes', '4[3,5]', '--h100', '512'], dict(token_bytes='4[3,5]', h100=512)), ('choose', ['--goal', 'facts,style', '--D', '50M', '--private', '--no-sources', '--budget', '1e3'], dict(goal='facts,style', D=5e7, private=True, budget=1000))]

def plan(kind):
    from hyperlex_nb import dryrun, planner
    return getattr(dryrun if kind == 'dry' else planner, f'plan_{kind}')


@pytest.mark.parametrize('kind, args, given', PLANS, ids=[' '.join([k, *a[:2]]) for k, a, _ in PLANS])
def test_a_plan_is_one_json_object_or_a_table(kind, args, given, capsys):
    sheet = plan(kind)(**given)
    assert main(['plan', kind, *args, '--json']) == 0
    out = capsys.readouterr()
    results = json.loads(json.dumps(sheet.as_dict()['results']))
    assert json.loads(out.out, parse_constant=lambda x: pytest.fail(x))['results'] == results and len(out.out.splitlines()) == 1 and not out.err
    assert main(['plan', kind, *args]) == 0
    assert capsys.readouterr().out.splitlines()[0] == sheet.title


@pytest.fixture
def topic(tmp_path):
    (tmp_path/'1984').mkdir()
    for i in range(15): (tmp_path/'1984'/f'{i}.txt').write_text(' '.join(f'дом{(i * 7 + j) % 90} стоит, река{j % 50} течёт.' for j in range(100)), encoding='utf-8')
    return tmp_path/'1984'


def test_a_topic_is_one_json_object_though_it_takes_long(topic, capsys, monkeypatch):
    "Lines of progress belong to stderr: here one is due after each document"
    from functools import partial
    from hyperlex_nb import runs, saturation
    monkeypatch.setattr(saturation, 'progress', partial(runs.progress, every=0))
    assert main(['plan', 'corpus', '--topic', str(topic), '--bits-characters', '0', '--figure', str(topic.parent/'f.png'), '--json']) == 0
    out = capsys.readouterr().out
    assert json.loads(out)['results']['documents'] == 15 and (topic.parent/'f.png').stat().st_size > 5000


def test_names_that_look_like_numbers_are_names(topic, capsys, monkeypatch):
    monkeypatch.chdir(topic.parent)
    assert main(['plan', 'corpus', '--topic', '1984', '--bits-characters', '0']) == 0 and 'Saturation of 1984' in capsys.readouterr().out
    assert main(['plan', 'model', '--config', '1984']) == 2 and len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize('args, message', [
    (['model', '--N', '-1'], 'N=-1: expected a number from 1e+06'), (['model', '--N=-1'], 'N=-1: expected'), (['train', '--D', '-1.4e12', '--law', 'hoffmann'], 'D=-1400000000000.0: expected'), (['train', '--N', '70B', '--D', 'nan', '--law', 'hoffmann'], 'D=nan: expected'), (['train', '--C', '-inf', '--law', 'hoffmann'], 'C=-inf: expected'),
    (['train', '--N', '70', '--D', '1.4T', '--law', 'hoffmann'], 'N=70: expected'), (['train', '--N', 'сто', '--law', 'hoffmann'], "N='сто': expected"), (['model', '--N', ''], "N='': expected"), (['model', '--N', '1e30'], 'N=1e+30: expected'), (['model', '--N', '70B', '--gpu', 'TPU'], "gpu='TPU': expected one of A100"), (['model', '--N', '70B', '--tensor', '3'], 'tensor=3: expected a divisor'),
    (['model', '--size', '7B'], 'unrecognized arguments: --size 7B; `hyperlex plan model --help`'), (['model', '70B'], 'unrecognized arguments: 70B'), (['model', '--N'], 'argument --N: expected one argument'), (['train', '--gp', '8', '--N', '8B'], 'unrecognized arguments: --gp'), (['choose', '--goal', 'facts'], 'required: --D'),
    (['corpus', '--topic', 'nowhere'], 'nowhere'), (['corpus', '--pages', '1', '--books', '1'], 'expected at most one'), (['equivalence', '--N', '70B', '--seed', 'x', '--law', 'hoffmann'], "seed='x'"), ([], 'equivalence: which ordinary model'), (['Model'], 'plan what? one of model: '), (['--json'], 'plan'), (['dry', '--N', '70B', '--gpu', 'A100', '--gpus', '16'], 'does not fit on 16 A100 of 80 GB')])
def test_a_wrong_plan_is_one_line_and_status_2(args, message, capsys):
    assert main(['plan', *args]) == 2
    out = capsys.readouterr()
    assert message in out.err and len(out.err.strip().splitlines()) == 1 and not out.out


def test_no_kind_of_plan_lists_them_all_and_imports_nothing_heavy():
    code = "import sys\nfrom hyperlex_nb.cli import main\nprint(main(['plan']), [m for m in ('torch', 'transformers', 'numpy', 'scipy', 'matplotlib') if m in sys.modules])"
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == '2 []' and all(k in out.stderr for k in ('model', 'train', 'corpus', 'equivalence', 'route', 'choose'))


@pytest.mark.parametrize('kind', ['model', 'train', 'corpus', 'equivalence', 'dry', 'route', 'choose'])
def test_the_help_of_a_plan_is_the_comments_of_its_call(kind, capsys, monkeypatch):
    from inspect import signature
    from fastcore.docments import docments
    monkeypatch.setenv('COLUMNS', '2000')
    with pytest.raises(SystemExit) as e: main(['plan', kind, '--help'])
    text, call = capsys.readouterr().out, plan(kind)
    said = docments(call)
    for name in signature(call).parameters: assert f"--{name.replace('_', '-')}" in text and said[name] and said[name] in text, name
    assert e.value.code == 0 and '--json' in text and call.__doc__.split(': a `Sheet`')[0] in text


def test_help_on_plans_names_the_kinds(capsys):
    try: status = main(['plan', '--help'])
    except SystemExit as e: status = e.code
    said = capsys.readouterr().out
    assert status == 0 and all(k in said for k in ('model', 'train', 'corpus', 'equivalence', 'route', 'choose'))


@pytest.fixture
def letters(tmp_path):
    lines = [json.dumps(dict(text=f'Она не пришла в большой белый дом номер {i}, и дети ушли. ' * 20, work=f'w{i}'), ensure_ascii=False) for i in range(30)]
    (tmp_path/'in.jsonl').write_text('\n'.join(lines), encoding='utf-8')
    return tmp_path/'in.jsonl'


def test_compress_and_restore(letters, tmp_path, capsys):
    from hyperlex_nb.sources import documents
    assert main(['compress', str(letters), '--out', str(tmp_path/'c'), '--level', '3', '--procs', '2', '--tokenizer', '']) == 0
    out = capsys.readouterr().out
    assert '30 documents' in out and out.index('times fewer') < out.index('edits (dropped)'), 'the price stands with the saving'
    assert main(['compress', '--restore', str(tmp_path/'c'), '--out', str(tmp_path/'b')]) == 0 and 'the texts as they were' in capsys.readouterr().out
    assert [d['text'] for d in documents(tmp_path/'b')] == [d['text'] for d in documents(letters)]
    assert main(['compress', str(letters), '--out', str(tmp_path/'j'), '--stages', 'lemmas,marks', '--no-edits', '--json', '--tokenizer', '']) == 0
    got = json.loads(capsys.readouterr().out)
    assert got['total']['documents'] == 30 and got['total']['edit_bytes'] == 0 and got['row']['bits']['dropped'][0] > 0, 'what is not kept has its price all the same'


def test_compress_passes_over_bad_lines_if_asked(letters, tmp_path, capsys):
    letters.write_text(letters.read_text('utf-8') + '\n{"text": ', encoding='utf-8')
    assert main(['compress', str(letters), '--out', str(tmp_path/'c'), '--sample', '0']) == 2 and 'in.jsonl line 31: not JSON' in capsys.readouterr().err
    assert main(['compress', str(letters), '--out', str(tmp_path/'c'), '--sample', '0', '--skip-bad']) == 0 and '1 lines or files passed over' in capsys.readouterr().out


@pytest.mark.parametrize('args, message', [([], 'say what to compress'), (['a', '--restore', 'b'], 'one of the two'), (['nowhere'], 'nowhere: no such source'), (['in.jsonl', '--level', '5'], '1, 2, 3 or 4'), (['in.jsonl', '--stages', 'lemma'], "no stage 'lemma'"),
    (['in.jsonl', '--tokenizer', 'none'], 'none: no tokenizer folder'), (['--restore', 'nowhere'], 'not a folder that `hyperlex compress` has finished'), (['in.jsonl', '--procs', '0'], 'procs=0')])
def test_a_wrong_compress_is_one_line_and_status_2(letters, tmp_path, capsys, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    assert main(['compress', *args, '--out', 'c']) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) == 1 and not (tmp_path/'c').exists()
