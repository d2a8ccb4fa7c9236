"""Our runs of the systems that the paper's Tables 2-5 quote: what the study `data_free` measured, beside the quotes.

The committed copies are below `data_free/DATASET/seedN/SAMPLES/ROW/`. Their students learn from outputs of the teacher
alone, or of the Gaussian process.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cckd_jax.studies.reproduction import records
from cckd_jax.studies.reproduction.datasets import DATASETS
from cckd_jax.studies.reproduction.records import Record
from cckd_jax.synthesis import SYSTEMS, scaled

FOLDER = 'data_free'
_ROW = 'teacher_only'
# The samples of the study that stand for each quoted row. Zero-shot KD shows its impressions under transformations.
SAMPLES: Mapping[str, str] = MappingProxyType(
    {
        'Few Shot KD [10]': 'fskd',
        'Meta Data [19]': 'metadata',
        'Zero Shot KD [9]': 'zskd_augment',
        'Data Free KD [11]': 'dafl',
        'T + KEGNET [41]': 'kegnet',
    }
)


def copy_runs(workdir: Path, folder: Path) -> int:
    """Copies the results of the finished runs that stand for quoted rows.

    Args:
      workdir: of the study `data_free`.
      folder: receives `DATASET/seedN/SAMPLES/ROW/`.

    Returns:
      Number of the copied runs.
    """
    runs = [
        (path.parent, folder / dataset / path.parent.relative_to(workdir / values.config))
        for dataset, values in DATASETS.items()
        for samples in SAMPLES.values()
        for path in sorted(workdir.glob(f'{values.config}/seed*/{samples}/{_ROW}/results.json'))
    ]
    for run, target in runs:
        records.copy_run(run, target, workdir)
    return len(runs)


def read(folder: Path) -> list[Record]:
    """Reads the copied runs.

    Args:
      folder: contains `DATASET/seedN/SAMPLES/ROW/results.json`; it may be missing.

    Returns:
      Records with `dataset`, `row` (the paper's name), `seed`, `accuracy` and `setup`, the size of the run.
    """
    copies = []
    for label, samples in SAMPLES.items():
        for path in sorted(folder.glob(f'*/seed*/{samples}/{_ROW}/results.json')):
            (dataset, seed) = path.relative_to(folder).parts[:2]
            results, config = records.load(path), records.load(path.parent / 'config.json')
            copies.append(
                {
                    'dataset': dataset,
                    'row': label,
                    'seed': int(seed.removeprefix('seed')),
                    'accuracy': results['student']['test_accuracy'],
                    'setup': _setup(results, config),
                }
            )
    return copies


def _setup(results: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The size of a run, such as `**scaled**: 1,000 images, 100 steps, 30 epochs`."""
    transfer = config['transfer']
    defaults = SYSTEMS[transfer['name']].defaults
    values = {name: default if transfer.get(name) is None else transfer[name] for name, default in defaults.items()}
    values = scaled(values, transfer['scale'])
    mark = ' **scaled**' if any(values[name] < defaults[name] for name in ('images', 'steps')) else ''
    images, epochs = results['transfer']['images'], results['student']['epochs']
    return f'{mark}: {images:,} images, {values["steps"]:,} steps, {epochs} epochs'


def setup(copies: Sequence[Record], dataset: str, label: str) -> str:
    """The sizes of the runs that stand for a quoted row, as a note; empty without runs."""
    sizes = {record['setup'] for record in copies if (record['dataset'], record['row']) == (dataset, label)}
    return f'; ours{" or ".join(sorted(sizes))}' if sizes else ''
