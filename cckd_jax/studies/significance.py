"""The study of significance: test accuracy against the number of samples used, with random controls.

For each config and seed, all methods share one self-regulated teacher and one student that is trained without a
teacher. Two controls show what significance contributes: `random_subset` is `kd` on as many random examples as have a
significance above zero, and `shuffled` distributes the same counts over the examples at random. The methods are our
interpretation of the abstract of arXiv:2102.07125; there is no number of the paper to compare with.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cckd_jax.errors import InputError
from cckd_jax.io import load_arrays, save_arrays
from cckd_jax.studies import figures
from cckd_jax.studies.jobs import Job, override, restore_networks
from cckd_jax.studies.study import Column, Measures, Option, Options, Study

_BASELINE = 'separate'
_MEASURES = ('test_accuracy', 'samples_used', 'samples_presented', 'samples_in_all', 'share_used')

Control = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def random_subset(counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Replaces counts by ones for as many random examples as have a count above zero.

    Args:
      counts: int `[N]`, how often the teacher trained on each example.
      random: generator.

    Returns:
      Int `[N]`, one for the examples that are drawn and zero for the others.

    >>> int(random_subset(np.array([0, 7, 0, 2]), np.random.default_rng(0)).sum())
    2
    """
    chosen = random.choice(len(counts), np.count_nonzero(counts), replace=False)
    return np.isin(np.arange(len(counts)), chosen).astype(counts.dtype)


def shuffled(counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Distributes the counts over the examples at random.

    Args:
      counts: int `[N]`, how often the teacher trained on each example.
      random: generator.

    Returns:
      Int `[N]`, a permutation of the counts.

    >>> sorted(shuffled(np.array([0, 7, 0, 2]), np.random.default_rng(0)).tolist())
    [0, 0, 2, 7]
    """
    return random.permutation(counts)


CONTROLS: Mapping[str, Control] = {'random_subset': random_subset, 'shuffled': shuffled}
ROWS = (_BASELINE, 'kd', 'cckd_t', 'cckd_t_reg', 'significance', 'regulated', 'hybrid', *CONTROLS)


def jobs(options: Options) -> Iterator[Job]:
    """The runs: for each config and seed the baseline, then the rows that share its teacher and student.

    Raises:
      InputError: a margin temperature is not a number.
    """
    for seed, name, base_config in options.groups():
        for dataset, config in _arms(name, base_config, options.values['margin_temperatures']):
            folder = f'{dataset}/seed{seed}'
            base = f'{folder}/{_BASELINE}'
            common = {'seed': seed, 'teacher.self_regulate': True}
            yield Job(base, override(config, {**common, 'method': _BASELINE}), dataset, _BASELINE, seed)
            common |= restore_networks(config, options.workdir / base, baseline='student')
            for row in options.rows:
                if row == _BASELINE:
                    continue
                values = {**common, 'method': 'significance' if row in CONTROLS else row}
                prepare = None
                if row in CONTROLS:
                    path = options.workdir / folder / f'{row}.npz'
                    values['significance.file'] = str(path)
                    prepare = functools.partial(_write_control, path, row, seed, options.workdir / base)
                run_config = override(config, values)
                yield Job(f'{folder}/{row}', run_config, dataset, row, seed, needs=(base,), prepare=prepare)


def _arms(name: str, config: ConfigDict, temperatures: list[str]) -> Iterator[tuple[str, ConfigDict]]:
    """The config with each margin temperature in all its gates; as it is if there are none."""
    if not temperatures:
        yield name, config
    for temperature in temperatures:
        try:
            value = float(temperature)
        except ValueError:
            raise InputError(f'--margin_temperatures={temperature} must be numbers; for example 20,1') from None
        values = {'margin_temperature': value, 'teacher.margin_temperature': value}
        yield f'{name}_margin{temperature}', override(config, values)


def _write_control(path: Path, row: str, seed: int, base: Path) -> None:
    """Writes the counts of a control, made from the teacher's in the baseline run, unless they are there."""
    if not path.exists():
        teacher = load_arrays(base / 'significance.npz', description='significance', default_key='count')
        counts = CONTROLS[row](teacher['count'], np.random.default_rng(seed))
        epochs = teacher['epochs'] if row == 'shuffled' else np.array(1)
        save_arrays(path, **{**teacher, 'count': counts, 'epochs': epochs})


def measures(job: Job, results: Mapping[str, Any]) -> Measures:
    """Accuracy and samples used of the student, and of the teacher in the run that trains it."""
    student = {name: results['student'][name] for name in _MEASURES}
    student['share_presented'] = student['samples_presented'] / student['samples_in_all']
    if job.row != _BASELINE:
        return {job.row: student}
    counts = results['significance']
    total = counts['epochs'] * counts['examples']
    teacher = {
        'test_accuracy': results['teacher']['test_accuracy'],
        'samples_used': round(counts['share_counted'] * total),
        'samples_presented': total,
        'samples_in_all': total,
        'share_used': counts['share_counted'],
        'share_presented': 1.0,
    }
    return {'teacher': teacher, job.row: student}


# The colour-blind palette of Okabe and Ito; methods with a gate have diamonds, controls are hollow.
_STYLE = {
    'separate': ('#555555', 's'),
    'kd': ('#0072B2', 'o'),
    'cckd_t': ('#56B4E9', 'o'),
    'cckd_t_reg': ('#56B4E9', 'D'),
    'significance': ('#D55E00', 'o'),
    'regulated': ('#009E73', 'D'),
    'hybrid': ('#CC79A7', 'D'),
    'random_subset': ('#D55E00', '^'),
    'shuffled': ('#E69F00', '^'),
}


def figure(path: Path, summary: Mapping[str, Any]) -> None:
    """Draws test accuracy against the presentations used for training, one panel for each data set.

    Means with 95 % intervals, which are clipped to the range of the seeds, and a dot for each seed. Rows with equal
    numbers of samples stand side by side.

    Args:
      path: of the PNG.
      summary: the content of `study.json`.
    """
    names = figures.datasets(summary)
    drawing = Figure(figsize=(5.2 * len(names) + 1.6, 4.6), layout='constrained')
    panels = drawing.subplots(1, len(names), squeeze=False)[0]
    for axes, dataset in zip(panels, names, strict=True):
        rows = [row for row in figures.select(summary, 'rows', dataset) if row['row'] in _STYLE]
        runs = [run for run in figures.select(summary, 'runs', dataset) if run['row'] in _STYLE]
        all_used = [row['samples_used']['mean'] for row in rows]
        # Beside each other by a thirtieth of the axis, so that the position still tells the number.
        step = max(1.002, (max(1.0, *all_used) / max(1.0, min(all_used))) ** 0.035)
        for row in rows:
            (color, marker) = _STYLE[row['row']]
            used = row['samples_used']['mean']
            equal = [other['row'] for other in rows if other['samples_used']['mean'] == used]
            x = used * step ** (equal.index(row['row']) - (len(equal) - 1) / 2)
            seeds = [run['test_accuracy'] for run in runs if run['row'] == row['row']]
            axes.plot([x * step**0.35] * len(seeds), seeds, '.', color=color, markersize=4, alpha=0.7)
            axes.errorbar(
                x,
                row['test_accuracy']['mean'],
                yerr=row['test_accuracy']['half_width'],
                color=color,
                marker=marker,
                markersize=7,
                markerfacecolor='white' if row['row'] in CONTROLS else color,
                linestyle='none',
                capsize=3,
                elinewidth=1.2,
                label=row['row'],
            )
        axes.set_ylabel('test accuracy, mean and 95 % interval')
        axes.set_ylim(figures.limits([run['test_accuracy'] for run in runs], margin=0.12))
        axes.set(xscale='log', xlabel='presentations used for training', title=dataset)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=1))
    figures.finish(drawing, path, panels)


STUDY = Study(
    name='significance',
    description=(
        'All methods of a seed share one self-regulated teacher. `random_subset` and `shuffled` are controls: as many '
        'random examples as have a significance above zero, and the same significance counts at random examples.'
    ),
    jobs=jobs,
    measures=measures,
    columns={
        'test_accuracy': Column('test accuracy', percent=True, digits=2, compared=True),
        'samples_used': Column('presentations used', digits=0, interval=False),
        'share_used': Column('fraction used', percent=True, interval=False),
        'share_presented': Column('fraction presented', percent=True, digits=2, interval=False),
    },
    figure=figure,
    configs=('mnist_lenet', 'fashion_mnist_lenet'),
    rows=ROWS,
    compare=(('significance', 'random_subset'), ('significance', 'shuffled'), ('hybrid', 'regulated')),
    options={
        'margin_temperatures': Option((), 'of all gates, one arm of the study each; by default those of the config'),
    },
)
