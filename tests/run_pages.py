"""Runs every command of the documentation at small size: python tests/run_pages.py --data_dir=DIR [PAGE ...].

The suite parses all of them and runs some. Commands of a page run in its order in one folder, because a later one may
read what an earlier one wrote.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from test_readme import commands

from cckd_jax import data

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')), ROOT / 'benchmarks' / 'README.md']

_NETWORKS = {'teacher.epochs': 1, 'student.epochs': 1, 'dataset.examples': 256, 'batch_size': 64, 'attack.samples': 32}
_EVALUATION = {'evaluate.samples': 16, 'evaluate.steps': 2, 'evaluate.queries': 10}
_RUN = [f'--config.{name}={value}' for name, value in {**_NETWORKS, **_EVALUATION}.items()]
# What makes a command small, by its name; the last of two equal flags counts.
_SMALL = {
    'distil': _RUN,
    'study': [*_RUN, '--seeds=1', '--processes=1'],
    'reproduce': ['--seeds=1', '--epochs_scale=0.005', '--tables=2', '--datasets=mnist', '--processes=1'],
    'benchmark': ['--networks=lenet5_half', '--batch_size=64', '--rounds=1', '--epochs=2'],
}
_SMALL['main'] = _SMALL['distil']
_STEPS = '--steps=zskd:5,metadata:5,kegnet:10,dafl:10,fskd:10'
_SMALL_ON_PAGE = {
    ('data_free.md', 'main'): ['--config.transfer.scale=0.01', '--config.batch_size=16'],
    ('data_free.md', 'study'): [
        *('--config.transfer.images=128', '--config.batch_size=16', '--config.teacher.epochs=4'),
        *('--methods=teacher_only', _STEPS),
    ],
    ('faithful.md', 'study'): ['--methods=cckd_t', '--teachers=ibp'],
    ('significance.md', 'study'): ['--methods=significance'],
    ('teachers.md', 'study'): ['--methods=ca_mkd'],
    ('peers.md', 'study'): ['--methods=dml'],
}
# Runs that the commands of a page read, from another page.
_RUNS_BEFORE = {
    'export.md': ['cckd-jax distil --config=mnist_lenet --config.dataset.data_dir=DIR --workdir=runs/mnist'],
    'studies.md': [
        f'cckd-jax distil --config=digits_lenet --config.method={method} --workdir=runs/{method}'
        for method in ('kd', 'cckd_t', 'cckd_t_reg')
    ],
}
# Commands that tests run, because they need a second process or files of the reader's.
_ELSEWHERE = {
    'README.md': 'my_methods',  # test_readme.py
    'own_data.md': '.',  # test_own_data.py
    'processes.md': '.',  # test_processes.py
    'studies.md': 'temperatures:STUDY',  # test_studies_engine.py
    'settings.md': 'my_config',  # test_own_data.py
    'export.md': 'photo.png',  # test_own_data.py
}


def run(page: Path, words: list[str], folder: Path, data_dir: str) -> tuple[int, str]:
    """Returns the exit status of a small variant of the command, and its last lines."""
    (program, name, *arguments) = words
    name = re.sub(r'launch/(\w+)\.py', r'\1', name)
    arguments = [re.sub(r'=DIR$', f'={data_dir}', argument) for argument in arguments]
    if '--config.teacher.logits=FILE.npz' in arguments:
        labels = data.load('mnist', data_dir=data_dir).train.labels
        np.savez(folder / 'FILE.npz', logits=5 * np.eye(10, dtype=np.float32)[labels])
    start = [sys.executable, str(ROOT / 'launch' / f'{name}.py')]
    if program == 'cckd-jax':
        start = [sys.executable, '-m', 'cckd_jax', name]
    small = [*_SMALL.get(name, []), *_SMALL_ON_PAGE.get((page.name, name), [])]
    if {'--help', '--check'} & set(arguments):
        small = []
    search = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(search), 'JAX_PLATFORMS': 'cpu'}
    done = subprocess.run([*start, *arguments, *small], cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, '\n'.join(done.stderr.splitlines()[-5:])


def main() -> int:
    """Prints a line for each command, and the last lines of those that fail; returns 1 if one does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data_dir', required=True, help='where TFDS prepared MNIST, Fashion-MNIST and CIFAR-10')
    parser.add_argument('pages', nargs='*', help='names such as peers.md; all if there are none')
    options = parser.parse_args()
    unknown = {*options.pages}.difference(page.name for page in PAGES)
    if unknown:
        parser.error(f'there is no page {min(unknown)}; pages: {", ".join(page.name for page in PAGES)}')
    if not options.data_dir or not Path(options.data_dir).is_dir():
        parser.error(f'--data_dir={options.data_dir} is not a folder; name one in which TFDS prepared data sets')
    failed = 0
    for page in PAGES:
        if options.pages and page.name not in options.pages:
            continue
        with tempfile.TemporaryDirectory() as folder:
            # A copy, because `launch/reproduce.py --commit` writes there.
            for name in ('configs', 'docs'):
                shutil.copytree(ROOT / name, Path(folder) / name)
            before = [line.split() for line in _RUNS_BEFORE.get(page.name, [])]
            for words in [*before, *commands(page.read_text())]:
                text = ' '.join(words)
                if page.name in _ELSEWHERE and _ELSEWHERE[page.name] in text and page.parent.name != 'benchmarks':
                    print(f'elsewhere  {page.name}: {text}')
                    continue
                started = time.monotonic()
                (status, last) = run(page, words, Path(folder), str(Path(options.data_dir).absolute()))
                failed += status != 0
                outcome = f'{time.monotonic() - started:7.0f} s' if status == 0 else f'status {status} '
                print(f'{outcome}  {page.name}: {text}' + (f'\n{last}' if status else ''), flush=True)
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
