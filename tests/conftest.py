"""Small real material shared by the tests: a corpus folder and a tokenizer made of OpenCorpora, and the optional shared data."""
import hypothesis, os
from pathlib import Path
import nbformat, pytest

hypothesis.settings.register_profile('no deadline', deadline=None) # a busy machine is no failure
hypothesis.settings.load_profile('no deadline')

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope='session')
def root(): return ROOT


@pytest.fixture(scope='session')
def shared():
    "The folder of optional data (HYPERLEX_SHARED, or ../shared beside the project); skips where there is none."
    folder = Path(os.environ.get('HYPERLEX_SHARED') or ROOT.parent/'shared')
    if not (folder/'corpus').exists(): pytest.skip('no shared data on this machine (HYPERLEX_SHARED)')
    return folder


@pytest.fixture(scope='session')
def material(tmp_path_factory):
    "A folder with `corpus/` (150 OpenCorpora documents), `tok/` (1,024 tokens) and `packed/`."
    from hyperlex_nb.sources import documents
    from hyperlex_nb.corpus import build, read
    from hyperlex_nb.pretrain import pack
    from hyperlex_nb.tokenizer import train_tokenizer
    folder = tmp_path_factory.mktemp('material')
    build(documents('opencorpora', limit=150), folder/'corpus')
    train_tokenizer((d['text'] for d in read(folder/'corpus', 'train')), 1024).save_pretrained(folder/'tok')
    pack(folder/'corpus', folder/'tok', folder/'packed')
    return folder


@pytest.fixture
def notebook(tmp_path):
    "Make a small notebook: the first cell holds the parameters."
    def make(name, *cells):
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        nb.metadata.kernelspec = dict(name='python3', display_name='python3', language='python')
        nb.cells[0].metadata.tags = ['parameters']
        nbformat.write(nb, tmp_path/f'{name}.ipynb')
        return tmp_path/f'{name}.ipynb'
    return make


@pytest.fixture
def small_disk(tmp_path):
    "A file system of one megabyte; skips where it may not be mounted."
    import subprocess
    folder = tmp_path/'small'
    folder.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(folder)], capture_output=True).returncode: pytest.skip('mounting a small tmpfs is not permitted here')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], capture_output=True)
