import re, subprocess, sys, time
import pytest
from hyperlex_nb.book import run_book, stages
from hyperlex_nb.runs import Run


@pytest.fixture
def book(notebook, tmp_path):
    "A book of three pages; returns a function that runs it."
    notebook('one', "n: int = 3  # a\nprofile: str = 'smoke'  # p", "from hyperlex_nb.runs import Run\nRun.current().output('a').write_text(str(n))", "#| hide\nprint('hidden text')", "print('shown <b>text</b>')")
    notebook('two', "profile: str = 'smoke'  # p", "from hyperlex_nb.runs import Run\nimport matplotlib.pyplot as plt\nprint('read', Run.latest('one', 'a').read_text()); plt.plot([1, 2]);")
    (tmp_path/'book.toml').write_text('[[stage]]\nnotebook = "one"\nseconds = { smoke = 1 }\n[[stage]]\nnotebook = "two"\nseconds = { smoke = 1 }\n')
    return lambda *a, **kw: run_book(*a, runs_dir=tmp_path/'runs', file=tmp_path/'book.toml', **kw)


def test_the_list_of_stages_is_real():
    listed = stages()
    assert all(s['notebook'].exists() for s in listed) and {'smoke', 'cpu'} <= set(listed[0]['seconds']) and listed[-1]['notebook'].stem == '18_verdicts'


def test_a_book_runs_and_is_bound(book, capsys):
    run = book('smoke', {'n': '5'})
    out = capsys.readouterr().out
    assert run.status == 'finished' and 'stage 1 of 2: 00-one, about 1 s' in out and '] read 5' in out and out.index('about 1 s') < out.index('read 5')
    page = (run.path/'book.html').read_text(encoding='utf-8')
    assert 'hidden text' not in page and 'shown &lt;b&gt;text' in page and 'data:image/png;base64,' in page
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?:', page) and 'C01' in page and 'not measured yet' in page


@pytest.mark.parametrize('profile, params, message', [('smoke', {'m': 1}, "no stage of the book has a parameter 'm'"), ('smoke', {'n': 'x'}, 'parameter n'), ('tiny', {}, "'tiny' is not one of")])
def test_wrong_requests_start_nothing(book, tmp_path, profile, params, message):
    with pytest.raises(ValueError, match=message): book(profile, params)
    assert not (tmp_path/'runs').exists()


def test_a_failed_stage_stops_the_book_and_it_can_be_resumed_after_the_mend(book, notebook, tmp_path):
    notebook('two', "profile: str = 'smoke'  # p", "1 / 0")
    run = book('smoke')
    assert run.status == 'failed' and 'stage 01-two: cell 2: ZeroDivisionError' in run.manifest['error'] and '(failed)' in (run.path/'book.html').read_text()
    notebook('two', "profile: str = 'smoke'  # p", "print('mended')")
    run = book(resume=run.id)
    assert run.status == 'finished' and not run.manifest['error'] and Run(run.path/'00-one').manifest['attempts'] == 1
    with pytest.raises(ValueError, match='no book'): book(resume='nothing')


def test_the_expected_seconds_are_those_of_the_last_finished_run(book, capsys):
    first = book('smoke')
    Run(first.path/'00-one')._update(wall_s=77)
    Run(first.path/'01-two')._update(wall_s=55, profile='cpu')
    capsys.readouterr()
    book('smoke', {'n': '5'})
    out = capsys.readouterr().out
    assert '00-one, about 77 s' in out and '01-two, about 1 s' in out


def test_a_killed_book_is_failed_and_goes_on(book, notebook, tmp_path):
    notebook('two', "profile: str = 'smoke'  # p", "import time, pathlib\nfrom hyperlex_nb.runs import Run\nf = Run.current().output('f')\nif not f.exists(): f.touch(); time.sleep(100)")
    code = f"from hyperlex_nb.book import run_book; run_book('smoke', runs_dir={str(tmp_path/'runs')!r}, file={str(tmp_path/'book.toml')!r})"
    child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.DEVNULL)
    while not list((tmp_path/'runs').glob('*/01-two/f')): time.sleep(.1)
    child.kill(); child.wait()
    rows = {r['notebook']: r['status'] for r in Run.table(tmp_path/'runs')}
    assert rows == dict(book='failed', one='finished', two='failed')
    assert book(resume=next((tmp_path/'runs').iterdir()).name).status == 'finished'
