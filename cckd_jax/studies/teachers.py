"""The study of teachers: a student's test accuracy as one of its teachers degrades, by method.

For each config and seed, all runs share the other teachers, one student that is trained without a teacher, and each
degraded version of teacher 0. The methods are those that the CA-MKD paper compares (arXiv:2201.00007); it claims that
weights by the label keep a bad teacher from doing harm.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from ml_collections import ConfigDict

from cckd_jax import config as settings
from cckd_jax.errors import InputError, lookup
from cckd_jax.studies import figures
from cckd_jax.studies.jobs import Job, override, restore_networks, restore_teacher
from cckd_jax.studies.study import Column, Measures, Option, Options, Study

_BASELINE = 'separate'
# The row that trains the degraded teacher of a level, which the other rows restore.
_TEACHER_TRAINING_ROW = 'aver'
# CA-MKD without its feature maps.
_LOGITS_ONLY = 'ca_mkd_logits'
ROWS = (_TEACHER_TRAINING_ROW, 'ebkd', 'aekd', 'ca_mkd', _LOGITS_ONLY)
_ALL_ROWS = (*ROWS, 'fitnet_mkd')
# Fields of a teacher that matter only while it is trained, so that a run may restore it without them.
_DEGRADATIONS = ('label_noise', 'epochs', 'learning_rate')


def jobs(options: Options) -> Iterator[Job]:
    """The runs: for each config and seed the baseline, then for each level all rows.

    Raises:
      InputError: there is no such degradation, a level has the wrong type, a config has one teacher, or it reads
        teacher 0 from a file.
    """
    field = options.values['worse']
    lookup(dict.fromkeys(_DEGRADATIONS), field, 'way to make a teacher worse')
    rows = list(dict.fromkeys((_TEACHER_TRAINING_ROW, *options.rows)))
    for seed, dataset, config in options.groups():
        _check_teachers(dataset, config)
        folder = f'{dataset}/seed{seed}'
        base = f'{folder}/{_BASELINE}'
        yield Job(base, override(config, {'seed': seed, 'method': _BASELINE}), dataset, _BASELINE, seed)
        shared = {'seed': seed, **restore_networks(config, options.workdir / base, baseline='student')}
        original = {name: shared.pop(name) for name in restore_teacher(0, Path(), teachers=config.num_teachers)}
        for level in _parse_levels(config, field, options.values['levels']):
            trained = f'{folder}/{field}_{level}/{_TEACHER_TRAINING_ROW}'
            degraded = level != settings.teachers(config)[0][field]
            for row in rows:
                values = original
                needs: tuple[str, ...] = (base,)
                if degraded and row == _TEACHER_TRAINING_ROW:
                    values = {f'teachers.0.{field}': level}
                elif degraded:
                    values = restore_teacher(0, options.workdir / trained, teachers=config.num_teachers)
                    needs = (base, trained)
                run_config = override(config, {**shared, **values, **_method(row)})
                yield Job(f'{folder}/{field}_{level}/{row}', run_config, dataset, row, seed, level, needs)


def _check_teachers(name: str, config: ConfigDict) -> None:
    if config.num_teachers < 2:
        raise InputError(f'{name} has one teacher, and the study needs several; set --config.num_teachers=3')
    teacher = settings.teachers(config)[0]
    if teacher.checkpoint or settings.logits_source(teacher):
        raise InputError(
            f'{name} reads teacher 0 from a file, but the study trains it; leave out checkpoint, logits and onnx'
        )


def _parse_levels(config: ConfigDict, field: str, levels: Sequence[Any]) -> list[Any]:
    kind = config.teacher.get_type(field)
    try:
        return [kind(level) for level in levels]
    except ValueError:
        raise InputError(f'levels of {field} must be {kind.__name__}; got {", ".join(map(str, levels))}') from None


def _method(row: str) -> dict[str, Any]:
    return {'method': 'ca_mkd', 'feature_weight': 0.0} if row == _LOGITS_ONLY else {'method': row}


def measures(job: Job, results: Mapping[str, Any]) -> Measures:
    """Accuracy of the student and of teacher 0, and the share of teacher 0 in the weights."""
    student = {'test_accuracy': results['student']['test_accuracy']}
    if job.row == _BASELINE:
        return {job.row: student}
    weights = results['teacher_weights']
    count = len(results['teacher']['model'])
    student['worse_accuracy'] = results['teacher']['test_accuracy'][0]
    student['worse_share'] = weights['logits']['overall'][0] if weights else 1 / count
    return {job.row: {**student, 'teachers': count}}


# The colour-blind palette of Okabe and Ito.
_STYLE = {
    'aver': ('#555555', 's'),
    'ebkd': ('#E69F00', '^'),
    'aekd': ('#0072B2', 'v'),
    'ca_mkd': ('#D55E00', 'o'),
    _LOGITS_ONLY: ('#56B4E9', '*'),
    'fitnet_mkd': ('#CC79A7', 'D'),
}


def figure(path: Path, summary: Mapping[str, Any]) -> None:
    """Draws the student's accuracy, and below it the share of teacher 0 in the weights, over the levels.

    One column of panels for each data set; means with 95 % intervals, and a dot for each seed.

    Args:
      path: of the PNG.
      summary: the content of `study.json`.
    """
    names = figures.datasets(summary)
    drawing = Figure(figsize=(5.2 * len(names) + 1.6, 6.4), layout='constrained')
    panels = drawing.subplots(2, len(names), squeeze=False, sharex='col', height_ratios=(1.6, 1))
    for (above, below), dataset in zip(panels.T, names, strict=True):
        rows, runs = figures.select(summary, 'rows', dataset), figures.select(summary, 'runs', dataset)
        levels = sorted({row['level'] for row in rows if row['level'] is not None})
        for row in rows:
            if row['level'] is None:
                mean = row['test_accuracy']['mean']
                above.axhline(mean, color='#009E73', linestyle='--', linewidth=1, label='student alone')
        styles = {name: style for name, style in _STYLE.items() if any(row['row'] == name for row in rows)}
        for index, (name, (color, marker)) in enumerate(styles.items()):
            level_rows = sorted((row for row in rows if row['row'] == name), key=lambda row: row['level'])
            # Side by side, so that no interval covers another.
            offset = 0.07 * (index - (len(styles) - 1) / 2)
            x = [levels.index(row['level']) + offset for row in level_rows]
            widths = [row['test_accuracy']['half_width'] or 0.0 for row in level_rows]
            style = {'color': color, 'marker': marker, 'markersize': 6, 'linewidth': 1.3}
            means = [row['test_accuracy']['mean'] for row in level_rows]
            above.errorbar(x, means, yerr=widths, capsize=3, label=name, **style)
            dots = [(levels.index(run['level']) + offset, run['test_accuracy']) for run in runs if run['row'] == name]
            above.plot(*zip(*dots, strict=True), '.', color=color, markersize=4, alpha=0.6)
            below.plot(x, [row['worse_share']['mean'] for row in level_rows], **style)
        above.set_ylim(figures.limits([run['test_accuracy'] for run in runs], margin=0.5))
        above.set(ylabel="student's test accuracy,\nmean and 95 % interval", title=dataset)
        above.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        below.set(xlabel=f'{summary["options"]["worse"]} of teacher 0', ylabel='share of teacher 0\nin the weights')
        below.set_xticks(range(len(levels)), [f'{level:g}' for level in levels])
        below.set_ylim(bottom=-0.02)
    figures.finish(drawing, path, panels[0])


STUDY = Study(
    name='teachers',
    description=(
        'Teacher 0 gets worse from level to level. All methods of a seed and level share their teachers; '
        '`ca_mkd_logits` is `ca_mkd` without feature maps.'
    ),
    jobs=jobs,
    measures=measures,
    columns={
        'worse_accuracy': Column('accuracy of teacher 0', percent=True, digits=2, interval=False),
        'test_accuracy': Column("student's test accuracy", percent=True, digits=2, compared=True),
        'worse_share': Column('share of teacher 0', interval=False),
    },
    figure=figure,
    configs=('digits_teachers',),
    rows=_ALL_ROWS,
    default_rows=ROWS,
    compare=(
        *((row, _TEACHER_TRAINING_ROW) for row in _ALL_ROWS[1:]),
        (_LOGITS_ONLY, 'ebkd'),
        (_LOGITS_ONLY, 'aekd'),
        ('ca_mkd', _LOGITS_ONLY),
    ),
    level='{worse} of teacher 0',
    options={
        'worse': Option('label_noise', 'what makes teacher 0 worse: label_noise, epochs or learning_rate'),
        'levels': Option(('0', '0.25', '0.5', '0.75', '1'), 'values of it'),
    },
)
