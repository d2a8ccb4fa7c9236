"""The study of seeds: the same config with several seeds, by one method or several that share their teachers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cckd_jax.io import write_json
from cckd_jax.report.style import COLORS
from cckd_jax.studies import figures
from cckd_jax.studies.jobs import Job, override, restore_networks
from cckd_jax.studies.study import Column, Measures, Options, Study

_TEACHER = 'teacher.test_accuracy'
_STUDENT = 'student.test_accuracy'
_SEPARATE = 'separate.test_accuracy'
# Each of several teachers has a measure, `teacher.test_accuracy[0]` and so on; the table shows as many as the default
# config allows.
_MAX_COLUMNS = 8
COLUMNS = {
    _STUDENT: Column('student', percent=True, digits=2, compared=True),
    _TEACHER: Column('teacher', percent=True, digits=2),
    **{f'{_TEACHER}[{index}]': Column(f'teacher {index}', percent=True, digits=2) for index in range(_MAX_COLUMNS)},
    _SEPARATE: Column('student alone', percent=True, digits=2),
    'student.share_used': Column('samples used', percent=True, digits=2),
    'student.success_rate': Column('success rate', digits=4),
    'student.failure_rate': Column('failure rate', digits=4),
    'student.adversarial_accuracy': Column('under FGSM', percent=True, digits=2, compared=True),
}


def jobs(options: Options) -> Iterator[Job]:
    """The runs: for each config and seed the first method, whose teachers the other methods share.

    Without rows, the method of each config is run alone.
    """
    for seed, dataset, config in options.groups():
        (first, *others) = options.rows or (config.method,)
        base = f'{dataset}/seed{seed}/{first}'
        values = {'seed': seed, 'method': first}
        yield Job(base, override(config, values), dataset, first, seed)
        baseline = 'student' if first == 'separate' else 'separate'
        values |= restore_networks(config, options.workdir / base, baseline=baseline)
        for row in others:
            values['method'] = row
            yield Job(f'{dataset}/seed{seed}/{row}', override(config, values), dataset, row, seed, needs=(base,))


def measures(job: Job, results: Mapping[str, Any]) -> Measures:
    """The values of `results.json` that the table shows: of several teachers by index, of several students the mean."""
    values: dict[str, Any] = {}
    for name in COLUMNS:
        if '[' in name:
            continue
        (section, key) = name.split('.')
        value = results[section][key]
        if section == 'student' and isinstance(value, list):
            known = [number for number in value if number is not None]
            value = sum(known) / len(known) if known else None
        values |= {f'{name}[{i}]': item for i, item in enumerate(value)} if isinstance(value, list) else {name: value}
    return {job.row: values}


def figure(path: Path, summary: Mapping[str, Any]) -> None:
    """Draws the test accuracies of teachers, of the student alone and of the student by each method.

    One panel for each data set; means with 95 % intervals, which are clipped to the range of the seeds, and a dot for
    each seed.

    Args:
      path: of the PNG.
      summary: the content of `study.json`.
    """
    names = figures.datasets(summary)
    most = max(len(_lines(figures.select(summary, 'rows', dataset))) for dataset in names)
    drawing = Figure(figsize=(5.6 * len(names), 0.42 * most + 1.4), layout='constrained')
    for axes, dataset in zip(drawing.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        lines = _lines(figures.select(summary, 'rows', dataset))
        runs = figures.select(summary, 'runs', dataset)
        shown = []
        for y, (_, row, name, color) in enumerate(lines):
            seeds = [run[name] for run in runs if run['row'] == row['row']]
            shown += seeds
            axes.plot(seeds, [y + 0.2] * len(seeds), '.', color=color, markersize=5, alpha=0.7)
            estimate = row[name]
            axes.errorbar(estimate['mean'], y, xerr=estimate['half_width'], fmt='o', color=color, capsize=3)
        axes.set_yticks(range(len(lines)), [label for label, *_ in lines])
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set_xlim(figures.limits(shown, margin=0.3))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        axes.set(xlabel='test accuracy, mean and 95 % interval', title=dataset)
    figures.finish(drawing, path, [])


def _lines(rows: list[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any], str, str]]:
    """Label, row, measure and colour of each line: what the methods share, then the student by each method."""
    first = rows[0]
    teachers = [name for name in COLUMNS if name.startswith(_TEACHER) and name in first]
    lines = [(COLUMNS[name].title, first, name, COLORS['teacher']) for name in teachers]
    lines.append((COLUMNS[_SEPARATE].title, first, _SEPARATE, COLORS['separate']))
    lines += [(row['row'], row, _STUDENT, COLORS['student']) for row in rows]
    # A run may leave out the student alone, and a file of logits may not cover the test split.
    return [line for line in lines if line[1][line[2]] is not None]


def export(workdir: Path, summary: Mapping[str, Any]) -> None:
    """Writes `seeds.json`, the estimates of each config and method by the name of the measure.

    `interval` is another name of `half_width`.
    """
    groups = []
    for row in summary['rows']:
        runs = [run for run in figures.select(summary, 'runs', row['dataset']) if run['row'] == row['row']]
        group = {'method': row['row'], 'dataset': row['dataset'], 'seeds': [run['seed'] for run in runs]}
        for name in runs[0]:
            if '.' in name:
                estimate = row[name] or {'mean': None, 'half_width': None}
                values = [run[name] for run in runs]
                group[name] = {'values': values, **estimate, 'interval': estimate['half_width']}
        groups.append(group)
    write_json(workdir / 'seeds.json', groups[0] if len(groups) == 1 else groups)


STUDY = Study(
    name='seeds',
    description='The same config with several seeds; methods of a seed share their teachers.',
    jobs=jobs,
    measures=measures,
    columns=COLUMNS,
    figure=figure,
    configs=('digits_lenet',),
    export=export,
    several_students=True,
)
