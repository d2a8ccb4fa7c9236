"""The study of distillation without the data: methods of one teacher on transfer sets, beside noise and real images.

For each config and seed, all runs share the teacher and the student alone, and those of one system its samples.
"""

import functools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from ml_collections import ConfigDict
from PIL import Image

from cckd_jax.errors import InputError, lookup
from cckd_jax.io import write_text
from cckd_jax.report import style
from cckd_jax.studies import data_free_summary, figures
from cckd_jax.studies.jobs import Job, override, restore_networks, stretched_alpha
from cckd_jax.studies.study import Column, Measures, Option, Options, Study
from cckd_jax.synthesis import SYSTEMS, setting_types

_REAL = 'real'
# What the student learns from: config values by name. The outputs of fskd are probabilities at temperature 1.
_SAMPLES: Mapping[str, Mapping[str, Any]] = {
    _REAL: {'transfer.name': None},
    'noise': {'transfer.name': 'noise'},
    'zskd': {'transfer.name': 'zskd'},
    'zskd_soft': {'transfer.name': 'zskd', 'transfer.label': 'soft'},
    'zskd_reject': {'transfer.name': 'zskd', 'transfer.reject': True},
    'zskd_augment': {'transfer.name': 'zskd', 'transfer.augment': True},
    'zskd_features': {'transfer.name': 'zskd', 'transfer.space': 'features'},
    'kegnet': {'transfer.name': 'kegnet'},
    'dafl': {'transfer.name': 'dafl'},
    'metadata': {'transfer.name': 'metadata'},
    'fskd': {'transfer.name': 'fskd', 'temperature': 1.0},
    'samples': {'transfer.name': 'samples'},
}
_ROWS = ('teacher_only', 'kd', 'cckd_l', 'cckd_t', 'cckd_t_reg')
# Rows of samples that answer one question: what the label of an impression does to CCKD-T, what transformations, which
# labels do not follow, do to the teacher's outputs alone, and what the labels of real samples are worth.
_OWN_ROWS: Mapping[str, tuple[str, ...]] = {
    'zskd_soft': ('cckd_t', 'cckd_t_reg'),
    'zskd_reject': ('teacher_only', 'cckd_t', 'cckd_t_reg'),
    'zskd_augment': ('teacher_only',),
    'samples': ('separate', *_ROWS),
}
# Settings of the systems, unless the config has others. For CPUs, the generator of dafl has a quarter of the published
# width, and both generators have smaller batches.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    'zskd': {'batch_size': 500, 'learning_rate': 0.05},
    'kegnet': {'batch_size': 64},
    'dafl': {'width': 32, 'batch_size': 64, 'steps': 6000},
    'metadata': {'batch_size': 500},
}
_SAME_IMAGES = ('transfer.label', 'transfer.reject', 'transfer.augment')
# Images of a row in the figure of samples.
_GRID = 10


def jobs(options: Options) -> Iterator[Job]:
    """The runs: the first of a seed trains the teacher and the student alone, the first of a system makes its samples.

    Raises:
      InputError: there are no such samples, or a number is none.
    """
    steps = _parse_numbers('steps', options.values['steps'], SYSTEMS)
    epochs = _parse_numbers('student_epochs', options.values['student_epochs'], _SAMPLES)
    for seed, dataset, config in options.groups():
        shared: dict[str, Any] = {'seed': seed, 'evaluate.transfer_attack': False}
        base: str | None = None
        makers: dict[str, str] = {}
        for samples in dict.fromkeys(options.values['samples']):
            values = _values(config, samples, steps, epochs)
            for row in options.rows:
                if row not in _OWN_ROWS.get(samples, _ROWS):
                    continue
                name = f'{dataset}/seed{seed}/{samples}/{row}'
                run_config = override(config, {**values, **shared, 'method': row})
                maker = name if samples == _REAL else makers.setdefault(_synthesis_of(run_config), name)
                copied = {'teacher_outputs.npz': base, 'transfer_set.npz': None if maker == name else maker}
                sources = {file: run for file, run in copied.items() if run is not None}
                prepare = functools.partial(_copy, options.workdir, sources, name) if sources else None
                needs = tuple(dict.fromkeys(sources.values()))
                yield Job(name, run_config, dataset, row, seed, samples, needs, prepare)
                if base is None:
                    base = name
                    # The first run alone evaluates the student that was trained without a teacher.
                    shared['separate.enabled'] = False
                    shared |= restore_networks(override(config, shared), options.workdir / name, baseline='separate')


def _values(config: ConfigDict, samples: str, steps: Mapping[str, int], epochs: Mapping[str, int]) -> dict[str, Any]:
    """Config values of the runs on some samples.

    Without other numbers, and with `transfer.scale` below 1, students on real images train for as many epochs less,
    because there are as many more images.
    """
    values = dict(lookup(_SAMPLES, samples, 'samples'))
    system = values['transfer.name']
    known = {} if system is None else SYSTEMS[system].defaults
    # Settings that the config has for other systems.
    values |= {f'transfer.{name}': None for name in setting_types() if name not in known}
    defaults = {**_DEFAULTS.get(system, {}), **({'steps': steps[system]} if system in steps else {})}
    values |= {f'transfer.{name}': value for name, value in defaults.items() if config.transfer[name] is None}
    length = config.student.epochs
    if samples == _REAL:
        length = max(1, round(length * config.transfer.scale))
    length = epochs.get(samples, length)
    return {**values, 'student.epochs': length, 'alpha': stretched_alpha(config, length)}


def _synthesis_of(config: ConfigDict) -> str:
    """The system of a run and its settings; runs that have them in common share their samples."""
    return repr([config.transfer[name] for name in ('name', *setting_types())])


def _parse_numbers(option: str, texts: Sequence[str], names: Mapping[str, Any]) -> dict[str, int]:
    """Numbers by name, from `name:number`.

    >>> _parse_numbers('steps', ['zskd:300'], SYSTEMS)
    {'zskd': 300}
    """
    numbers = {}
    for text in texts:
        (name, _, number) = text.partition(':')
        lookup(names, name, f'name in --{option}')
        if not number.isdecimal() or int(number) < 1:
            raise InputError(f'--{option}={text} must be a name and a number above 0, such as zskd:300')
        numbers[name] = int(number)
    return numbers


def _copy(workdir: Path, sources: Mapping[str, str], target: str) -> None:
    """Copies files of other runs, by name, into a run directory."""
    (workdir / target).mkdir(parents=True, exist_ok=True)
    for file, run in sources.items():
        shutil.copyfile(workdir / run / file, workdir / target / file)


def measures(job: Job, results: Mapping[str, Any]) -> Measures:
    """Accuracy of the student, what its gate kept, its rates on the real training set, and facts of the samples."""
    (student, transfer) = (results['student'], results['transfer'])
    confidence = transfer.get('confidence', {})
    return {
        job.row: {
            'test_accuracy': student['test_accuracy'],
            **{name: student[name] for name in ('share_used', 'samples_used', 'success_rate', 'failure_rate')},
            'agreement': transfer.get('agreement'),
            'images': transfer.get('images'),
            'confidence': confidence.get('transfer_set'),
            'real_confidence': confidence.get('training_set'),
            'teacher': results['teacher']['test_accuracy'],
            'alone': results['separate']['test_accuracy'],
        }
    }


def figure(path: Path, summary: Mapping[str, Any]) -> None:
    """Draws the accuracy of the student by samples and method, a panel for each data set and a dot for each seed.

    Args:
      path: of the PNG.
      summary: the content of `study.json`.
    """
    names = figures.datasets(summary)
    levels = list(dict.fromkeys(row['level'] for row in summary['rows']))
    rows = list(dict.fromkeys(row['row'] for row in summary['rows']))
    drawing = Figure(figsize=(5.6 * len(names), 0.6 * len(levels) + 1.4), layout='constrained')
    for axes, dataset in zip(drawing.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        runs = figures.select(summary, 'runs', dataset)
        for index, row in enumerate(rows):
            own = [run for run in runs if run['row'] == row]
            heights = [levels.index(run['level']) + (index - (len(rows) - 1) / 2) * 0.15 for run in own]
            color = style.STUDENT_COLORS[index % len(style.STUDENT_COLORS)]
            axes.plot([run['test_accuracy'] for run in own], heights, 'o', ms=5, color=color, label=row)
        axes.axvline(runs[0]['teacher'], color=style.color('teacher'), lw=1, label='teacher')
        axes.set_yticks(range(len(levels)), levels)
        axes.set_ylim(len(levels) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set(xlabel='test accuracy', title=dataset)
    figures.finish(drawing, path, drawing.axes[:1])


def export(workdir: Path, summary: Mapping[str, Any]) -> None:
    """Writes `summary.md`, and draws `samples.png`: a column of each data set, with images of each system's first run.

    Args:
      workdir: of the study.
      summary: the content of `study.json`.
    """
    write_text(workdir / 'summary.md', data_free_summary.render(summary))
    first: dict[tuple[str, str], str] = {}
    for run in summary['runs']:
        # Other labels and transformations change no image.
        if run['images'] is not None and _SAMPLES[run['level']].keys().isdisjoint(_SAME_IMAGES):
            first.setdefault((run['dataset'], run['level']), run['run'])
    if not first:
        return
    datasets, levels = (list(dict.fromkeys(names)) for names in zip(*first, strict=True))
    drawing = Figure(figsize=((0.4 * _GRID + 0.2) * len(datasets) + 0.3, 0.62 * len(levels)), layout='constrained')
    panels = drawing.subplots(len(levels), len(datasets), squeeze=False)
    for axes in panels.flat:
        axes.axis('off')
    for (dataset, level), run in first.items():
        axes = panels[levels.index(level), datasets.index(dataset)]
        with np.load(workdir / run / 'evaluation' / 'transfer_set.npz') as stored:
            (images, labels) = (stored['images'], stored['labels'])
        # One image of each class, as far as there are.
        chosen = np.unique(labels, return_index=True)[1][:_GRID]
        # White gaps and places without an image, so that all strips are equally long.
        spaced = np.pad(images[chosen] / 255, ((0, _GRID - len(chosen)), (0, 0), (0, 2), (0, 0)), constant_values=1)
        axes.imshow(style.displayed(np.concatenate(spaced, axis=1)), cmap='gray', vmin=0, vmax=1)
        axes.set_title(f'{dataset}: {level}', fontsize=7, loc='left')
    path = workdir / 'samples.png'
    style.save(drawing, path)
    # Noise hardly compresses: 16 colours take a fifth of the bytes.
    with Image.open(path) as image:
        image.convert('RGB').quantize(16).save(path, optimize=True)


STUDY = Study(
    name='data_free',
    description=(
        'Students that learn from samples made without the training set, from noise, or from the `real` training set. '
        '`zskd` labels its images with the class that they were made for, `zskd_soft` with their distribution, and '
        '`zskd_reject` leaves out those that the teacher classifies otherwise; `zskd_augment` shows them under random '
        'transformations, and `zskd_features` draws their targets in the feature space. Success and failure rate are '
        'over the real training set.'
    ),
    jobs=jobs,
    measures=measures,
    columns={
        'test_accuracy': Column('student', percent=True, digits=2, compared=True),
        'share_used': Column('samples used', percent=True, digits=2, interval=False),
        'success_rate': Column('success rate', digits=3),
        'failure_rate': Column('failure rate', digits=4),
        'agreement': Column("label is the teacher's class", percent=True, digits=1, interval=False),
        'confidence': Column('confidence', digits=3, interval=False),
        'images': Column('images', digits=0, interval=False),
        'teacher': Column('teacher', percent=True, digits=2, interval=False),
        'alone': Column('student alone', percent=True, digits=2, interval=False),
    },
    figure=figure,
    configs=('mnist_lenet',),
    rows=('separate', *_ROWS),
    compare=tuple((row, 'teacher_only') for row in ('separate', *_ROWS) if row != 'teacher_only'),
    level='samples',
    options={
        'samples': Option(tuple(_SAMPLES), 'what students learn from'),
        'steps': Option((), 'steps by system, such as zskd:300,dafl:2000; those of the systems unless given'),
        'student_epochs': Option(
            (), 'epochs of the student by samples, such as real:3,samples:300; those of the config unless given'
        ),
    },
    export=export,
)
