"""Small runs of five kinds on the embedded digits, and the comparison of their run directories and caches."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from cckd_jax import provenance

ROOT = Path(__file__).parents[2]
# By kind: the config, and settings that let a run pass through every stage within seconds.
KINDS: Mapping[str, Sequence[str]] = {
    'gate': (
        'digits_lenet',
        '--config.method=hybrid',
        '--config.recheck=true',
        '--config.teacher.self_regulate=true',
        '--config.validation_fraction=0.1',
        '--config.teacher.epochs=4',
        '--config.student.epochs=20',
    ),
    'teachers': (
        'digits_lenet',
        '--config.method=ca_mkd',
        '--config.num_teachers=2',
        '--config.teacher.epochs=3',
        '--config.student.epochs=10',
    ),
    'certified': (
        'digits_faithful',
        '--config.evaluate.robustness=false',
        '--config.evaluate.networks=student',
        '--config.evaluate.epsilons=0.03',
        '--config.teacher.epochs=6',
        '--config.student.epochs=6',
    ),
    'peers': ('digits_peers', '--config.student.epochs=10'),
    'streamed': (
        'digits_lenet',
        '--config.dataset.memory_gib=1e-9',
        '--config.teacher.epochs=4',
        '--config.student.epochs=10',
    ),
}
# Entries of JSON objects that measure time or name the version of the code.
_UNEQUAL_KEYS = re.compile(r'seconds|.*_seconds|commit')
# Texts that contain times. They are compared by name only.
_UNEQUAL_FILES = ('report.md', 'report.html')


def command(kind: str, workdir: Path, *settings: str) -> list[str]:
    """The command line of a run, which saves a checkpoint after every epoch."""
    (config, *of_kind) = KINDS[kind]
    return [
        *(sys.executable, str(ROOT / 'launch' / 'main.py'), f'--config={ROOT / "configs" / config}.py:smoke'),
        *(f'--workdir={workdir}', '--config.save_seconds=0', *of_kind, *settings),
    ]


def start(arguments: Sequence[str], cache: Path, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Starts a command on one virtual device with its own cache; its messages are added to a file."""
    fixed = {'JAX_NUM_CPU_DEVICES': '1', 'JAX_PLATFORMS': 'cpu', 'XDG_CACHE_HOME': str(cache)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('ab') as file:
        return subprocess.Popen(arguments, env={**os.environ, **fixed, **environment}, stdout=file, stderr=file)


def finish(arguments: Sequence[str], cache: Path, log: Path, **environment: str) -> float:
    """Runs a command to its end and returns its seconds of CPU time.

    Raises:
      RuntimeError: the status is not 0.
    """
    process = start(arguments, cache, log, **environment)
    (_, status, usage) = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise RuntimeError(f'status {process.returncode} of {" ".join(arguments)}; its messages are in {log}')
    return usage.ru_utime + usage.ru_stime


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """The seconds of CPU time of a running process, from Linux."""
    fields = Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def undisturbed(kind: str, folder: Path) -> tuple[Path, float]:
    """Makes a run that nothing disturbs, twice, and returns the second's directory and seconds of CPU time.

    The first fills the cache of compiled programs in `<folder>/cache`. The result is kept in the folder, for the same
    commit: other code may compute the same in another order.
    """
    facts, commit = folder / 'undisturbed.json', provenance.commit()
    if not facts.exists() or json.loads(facts.read_text())['commit'] != commit:
        for name in ('first', 'undisturbed'):
            shutil.rmtree(folder / name, ignore_errors=True)
            seconds = finish(command(kind, folder / name), folder / 'cache', folder / f'{name}.log')
        unequal = differences(contents(folder / 'first'), contents(folder / 'undisturbed'))
        if unequal:
            raise RuntimeError(f'two undisturbed runs of the kind {kind} differ in {unequal}')
        facts.write_text(json.dumps({'cpu_seconds': seconds, 'commit': commit}))
    return folder / 'undisturbed', json.loads(facts.read_text())['cpu_seconds']


def contents(workdir: Path) -> dict[str, str]:
    """A digest of each file of a run directory without times, and of each array of the newest checkpoints."""
    return {name: _digest(value) for name, value in _contents(workdir)}


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """The names whose digests differ, or that only one of the two has."""
    return sorted(name for name in first | second if first.get(name) != second.get(name))


def cached_arrays(cache: Path) -> dict[str, str]:
    """Digests of the decoded arrays in a cache, by what they are."""
    digests: dict[str, set[str]] = defaultdict(set)
    for path in (cache / 'cckd_jax' / 'decoded').glob('*.npz'):
        # The rest of a name is a key of the times of the files that were decoded.
        digests[path.name.rpartition('-')[0]].add(_digest(_arrays(path)))
    return {name: ' '.join(sorted(values)) for name, values in digests.items()}


def temporaries(*folders: Path) -> list[str]:
    """The files of folders whose names say that they are not finished."""
    pattern = re.compile(r'\..*\.tmp|\.[0-9a-f]{32}|.*incomplete.*|.*orbax-checkpoint-tmp.*')
    return [str(path) for folder in folders for path in folder.rglob('*') if pattern.fullmatch(path.name)]


def _contents(workdir: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(workdir.rglob('*')):
        name = str(path.relative_to(workdir))
        if path.name == 'checkpoints':
            yield from _newest_checkpoint(path, name)
        elif path.is_dir() or 'checkpoints/' in name or path.name == '.lock':
            continue
        elif path.name.startswith('events.'):
            yield str(Path(name).with_name('events')), ''
        elif path.name in _UNEQUAL_FILES:
            yield name, ''
        elif path.suffix == '.json':
            yield name, _without_times(json.loads(path.read_text()))
        elif path.suffix == '.jsonl':
            yield name, [_without_times(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == '.npz':
            yield name, _arrays(path)
        else:
            yield name, path.read_bytes()


def _newest_checkpoint(folder: Path, name: str) -> Iterator[tuple[str, Any]]:
    epochs = max(int(step.name) for step in folder.iterdir() if step.name.isdecimal())
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        items = {name: ocp.args.StandardRestore() for name in ('variables', 'training')}
        items |= {name: ocp.args.JsonRestore() for name in ('meta', 'rows')}
        restored = reader.restore((folder / str(epochs)).absolute(), args=ocp.args.Composite(**items))
    for item in ('meta', 'rows'):
        yield f'{name}/{item}', _without_times(restored[item])
    for item in ('variables', 'training'):
        for path, leaf in jax.tree_util.tree_leaves_with_path(restored[item]):
            yield f'{name}/{item}{jax.tree_util.keystr(path)}', np.asarray(leaf)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(entry) for key, entry in value.items() if not _UNEQUAL_KEYS.fullmatch(key)}
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    if isinstance(value, dict) and all(isinstance(entry, np.ndarray) for entry in value.values()):
        for name in sorted(value):
            digest.update(f'{name} {_digest(value[name])}'.encode())
    elif isinstance(value, np.ndarray):
        digest.update(f'{value.dtype} {value.shape}'.encode() + np.ascontiguousarray(value).tobytes())
    else:
        digest.update(value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode())
    return digest.hexdigest()[:16]
