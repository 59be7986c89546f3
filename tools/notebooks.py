"""The state of the notebooks, and the README made from one of them.

    python tools/notebooks.py check           # every problem is a line: the file, what is wrong, the command that mends it
    python tools/notebooks.py readme          # write README.md from nbs/index.ipynb
    python tools/notebooks.py readme --check  # only say whether it is in step
"""
import argparse, ast, itertools, json, os, re, shutil, subprocess, sys, tempfile, tomllib
from configparser import ConfigParser
from pathlib import Path

MARKER = re.compile(r'^`?(<{7}|={7}|>{7})( |`?$)', re.M)
MACHINE = re.compile(r'(?<![\w.~])/(?:tmp|root|home|work|Users|private|var/folders)/[\w.-]+|\b(?:site|dist)-packages/|\b[A-Z]:\\Users\\')
CHAPTER = re.compile(r'\d\d[a-z]?_\w+\.ipynb')


class Project:
    "The folders of a checkout, and its notebooks that can be read."
    def __init__(self, root):
        self.root, cfg = Path(root).resolve(), ConfigParser(delimiters=['='], interpolation=None)
        cfg.read(self.root/'settings.ini', encoding='utf-8')
        self.nbs, self.lib = (self.root/cfg['DEFAULT'][k] for k in ('nbs_path', 'lib_path'))
        self.files = sorted(p for p in self.nbs.rglob('*.ipynb') if not any(part[0] in '_.' for part in p.relative_to(self.nbs).parts))
        self.read, self.broken = {}, []
        for p in self.files:
            if bad := self._load(p): self.broken.append(f'{self.name(p)}: {bad}')

    def name(self, path): return path.relative_to(self.root).as_posix()

    def _load(self, p):
        "Read one notebook; what is wrong with it, if anything."
        raw = p.read_text(encoding='utf-8', errors='replace')
        if MARKER.search(raw): return f'merge conflict; mend: nbdev_fix {self.name(p)}, then choose between the marked cells'
        try:
            nb = json.loads(raw)
            for c in nb['cells']: c['source'] = ''.join(c['source']); c['cell_type'], c['metadata']
        except (ValueError, KeyError, TypeError) as e:
            return f"not a readable notebook ({' '.join(str(e).split())}); mend: git restore {self.name(p)}"
        if any(c['cell_type'] == 'markdown' and MARKER.match(c['source']) for c in nb['cells']):
            return f"cells of both sides of a merge; mend: jupyter lab {self.name(p)}, keep one side and delete the cells with marks"
        self.read[p] = nb['cells']

    def chapters(self): return [p for p in self.read if p.parent == self.nbs and CHAPTER.fullmatch(p.name)]
    def experiments(self): return [p for p in self.read if p.parent.name == 'experiments']
    def code(self, p): return [c for c in self.read[p] if c['cell_type'] == 'code']
    def exported(self, p):
        "Module names that notebook `p` writes."
        found = re.findall(r'^#\|\s*(?:default_exp|export[si]?)[ \t]+([\w.]+)', '\n'.join(c['source'] for c in self.code(p)), re.M)
        return {f.replace('.', '/') + '.py' for f in found}


def rebuilt(project):
    "A temporary copy of the project in which nbdev has cleaned every readable notebook and exported it anew."
    tmp = tempfile.TemporaryDirectory(prefix='notebooks-')
    copy = Path(tmp.name)
    for p in (*project.read, *(project.root/f for f in ('settings.ini', 'pyproject.toml') if (project.root/f).exists())):
        (copy/project.name(p)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(p, copy/project.name(p))
    (copy/project.lib.name).mkdir()
    code = ('from nbdev.clean import nbdev_clean; from nbdev.doclinks import nbdev_export\n'
            'nbdev_export.__wrapped__(); nbdev_clean.__wrapped__()')
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'} | {'HOME': tmp.name, 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run([sys.executable, '-c', code], cwd=copy, env=env, capture_output=True, text=True)
    if done.returncode: raise RuntimeError(f'nbdev could not export the notebooks:\n{done.stderr[-2000:]}')
    return tmp, copy


def stale(project, copy):
    "Modules that differ from what their notebook exports, and modules that no notebook exports."
    owner = {m: p for p in project.read for m in project.exported(p)}
    there = {p.relative_to(project.lib).as_posix() for p in project.lib.rglob('*.py')}
    for m in sorted(there | {*owner}):
        path, name = project.lib/m, project.name(project.lib/m)
        if m not in owner and path.name not in ('__init__.py', '_modidx.py'):
            if not project.broken: yield f'{name}: no notebook exports it; mend: git rm {name}, or restore its notebook'
        elif not ((copy/name).exists() and path.exists() and path.read_bytes() == (copy/name).read_bytes()):
            if m in owner: yield f'{project.name(owner[m])}: {name} is not what it exports; mend: nbdev_export'
            elif not project.broken: yield f'{name}: not what the notebooks export; mend: nbdev_export'


def unclean(project, copy):
    for p in project.read:
        if p.read_bytes() != (copy/project.name(p)).read_bytes():
            yield f'{project.name(p)}: not clean (execution counts, or metadata); mend: nbdev_clean --fname {project.name(p)}'
        if '"application/vnd.jupyter.widget-' in p.read_text(encoding='utf-8'):
            yield f'{project.name(p)}: a progress bar is kept as a widget; mend: switch it off in a hidden cell (disable_progress_bar), run the chapter again'


def kinds(project):
    "Chapters export, and import only what lies before them; experiments have one typed, commented cell of parameters and export nothing."
    order = {m: p.name for p in project.chapters() for m in project.exported(p)}
    for p in project.chapters():
        if not any(re.search(r'^#\|\s*default_exp\s+\w', c['source'], re.M) for c in project.code(p)):
            yield f'{project.name(p)}: a chapter without `#| default_exp`; mend: name its module in the first cell'
        shown = '\n'.join(c['source'] for c in project.code(p) if re.match(r'#\|\s*export', c['source']))
        for m in sorted(set(re.findall(rf'from (?:{project.lib.name})?\.(\w+) import', shown))):
            if order.get(m + '.py', '') > p.name: yield f'{project.name(p)}: imports {m} from a later chapter, {order[m + ".py"]}; mend: move one of the two'
    for p in project.experiments():
        if project.exported(p): yield f'{project.name(p)}: an experiment that exports; mend: move that code to a chapter'
        cells = [c['source'] for c in project.code(p) if 'parameters' in c['metadata'].get('tags', [])]
        if len(cells) != 1: yield f'{project.name(p)}: {len(cells)} cells with the tag parameters, one is needed; mend: set the tag in JupyterLab'
        for bad in (b for source in cells for b in _untyped(source)):
            yield f'{project.name(p)}: {bad}; mend: write `name: type = value  # what it is` in its parameters cell'


def _untyped(source):
    "What is wrong with a parameters cell."
    try: body, lines = ast.parse(source).body, source.split('\n')
    except SyntaxError as e: yield f'parameters that are not Python ({e.msg})'; return
    if not body: yield 'an empty parameters cell'
    for s in body:
        text = lines[s.lineno - 1].strip()
        try: ok = isinstance(s, ast.AnnAssign) and s.value is not None and (ast.literal_eval(s.value), True)[1]
        except ValueError: ok = False
        if not ok: yield f'parameter `{text}` without a type or a plain value'
        elif not re.search(r'#\s*\S', lines[s.end_lineno - 1][s.end_col_offset:]): yield f'parameter `{text}` without a comment'


def _texts(output):
    "Everything in an output that is read as text."
    data = output.get('data', {})
    for t in (output.get('text', ''), output.get('traceback', ''), *(v for k, v in data.items() if not k.startswith('image/') or 'svg' in k)):
        yield ''.join(t) if isinstance(t, (str, list)) else json.dumps(t)


def outputs(project):
    "Outputs that name this machine's folders, and outputs that are errors."
    for p in project.read:
        name = project.name(p)
        again = f'jupyter nbconvert --to notebook --execute --inplace {name} && nbdev_clean --fname {name}'
        for i, c in enumerate(project.read[p]):
            found = [m.group() for o in c.get('outputs', []) for t in _texts(o) if (m := MACHINE.search(t))]
            if found: yield f'{name}: cell {i} prints the path {found[0]} of this machine; mend: print the name only, then {again}'
            if any(o.get('output_type') == 'error' for o in c.get('outputs', [])): yield f'{name}: cell {i} ended in an error; mend: {again}'


def listed(project):
    "Chapters that the book or the index leaves out, and stages that are not there."
    book = project.nbs/'book.toml'
    try: stages = [s['notebook'] for s in tomllib.loads(book.read_text(encoding='utf-8'))['stage']]
    except (OSError, ValueError, KeyError, TypeError) as e: yield f'{project.name(book)}: cannot be read ({e}); mend: git restore {project.name(book)}'; return
    for s in stages:
        if not (project.nbs/f'{s}.ipynb').exists(): yield f'{project.name(book)}: stage {s} is not there; mend: delete that stage'
        if stages.count(s) > 1: yield f'{project.name(book)}: stage {s} is listed twice; mend: delete one'
    for p in project.chapters():
        if p.stem not in stages: yield f'{project.name(p)}: not in nbs/book.toml; mend: add a [[stage]] for it, in reading order'


def check(root):
    "Every problem of the notebooks under `root`, a line each."
    project = Project(root)
    tmp, copy = rebuilt(project)
    with tmp: return [*project.broken, *stale(project, copy), *unclean(project, copy), *kinds(project), *outputs(project), *listed(project)]


def _shown(outputs):
    "The outputs of a cell as Markdown; what was printed in a row is one block, however the kernel happened to send it."
    def kind(o): return o.get('name') or id(o) # of a stream; anything else stands alone
    return [text for _, some in itertools.groupby(outputs, kind) if (text := _block(list(some)))]

def _block(outputs):
    output = outputs[0]
    if output['output_type'] == 'stream': return _fence(''.join(part for o in outputs for part in o['text'])) if output['name'] == 'stdout' else ''
    data = {k: ''.join(v) if isinstance(v, list) else v for k, v in output.get('data', {}).items()}
    if 'text/markdown' in data: return data['text/markdown'].strip()
    return _fence(data.get('text/plain', ''))

def _fence(text, language='text'): return f'```{language}\n{text.strip(chr(10))}\n```' if text.strip() else ''

def readme(root):
    "The text of README.md: what a reader of index.ipynb sees, with links that work from the top folder."
    project, parts = Project(root), ['<!-- Made from nbs/index.ipynb by `make readme`; edit the notebook. -->']
    index = project.nbs/'index.ipynb'
    if index not in project.read: raise ValueError('; '.join(project.broken) or 'nbs/index.ipynb is not there')
    for c in project.read[index]:
        if c['cell_type'] == 'markdown': parts.append(c['source'].strip()); continue
        flags = {f'{k}:{v}' if v else k for k, v in re.findall(r'^#\|[ \t]*(\w+):?[ \t]*(\S*)', c['source'], re.M)}
        if flags & {'hide', 'include:false'}: continue
        if not flags & {'echo:false', 'hide_input'}: parts.append(_fence(re.sub(r'^#\|.*\n?', '', c['source'], flags=re.M), 'python'))
        if 'output:false' not in flags: parts += _shown(c['outputs'])
    text = re.sub(r'(\]\()(?!https?:|#|mailto:)([^)\s]+)\)', lambda m: m[1] + _from_top(m[2], project) + ')', '\n\n'.join(filter(None, parts)))
    return text + '\n'

def _from_top(link, project):
    "A link of the index notebook, seen from the top folder."
    target = os.path.normpath(f'{project.nbs.name}/{link}')
    return target.replace(os.sep, '/')


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--root', default=Path(__file__).parent.parent, help='the checkout (default: this one)')
    sub = p.add_subparsers(dest='command', required=True)
    sub.add_parser('check', help='list every problem of the notebooks')
    sub.add_parser('readme', help='write README.md from nbs/index.ipynb').add_argument('--check', action='store_true', help='only compare')
    a = p.parse_args(argv)
    if a.command == 'check':
        found = check(a.root)
        print('\n'.join(found) if found else 'notebooks: clean, in step with the package, in the book')
        return bool(found)
    file, text = Path(a.root)/'README.md', readme(a.root)
    same = file.exists() and file.read_text(encoding='utf-8') == text
    if a.check: print('README.md: in step with nbs/index.ipynb' if same else 'README.md: not what nbs/index.ipynb says; mend: make readme'); return not same
    file.write_text(text, encoding='utf-8')


if __name__ == '__main__': sys.exit(main())
