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
