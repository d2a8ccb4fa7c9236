"""Who is faithful to a robust teacher, and at what price? Accuracy, robustness and gaps of confidence by method.

For each data set and seed one teacher and one student trained alone are shared by all methods. All are measured at one
radius, the config's `epsilon`: accuracy; accuracy where FGSM on the student trained alone moved the training images, as
in the CCKD paper's Tables 8-9; accuracy under the worst of the attacks on the student itself; agreement with the
teacher; and the gap of confidence around the images, what attacks find of it beside what bounds certify. The two
faithful methods are readings of arXiv:2306.04431; its body could not be had, so there is no number to compare with.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cckd_jax.errors import InputError
from cckd_jax.reporting import study_faithful as study
from cckd_jax.statistics import estimate, verdict
from cckd_jax.studies import common

_BASE = 'separate'
ROWS = (
    _BASE,
    'kd',
    'cckd_t',
    'cckd_t_reg',
    'ard',
    'rslad',
    'iad',
    'faithful_adversarial',
    'faithful_certified',
)

MEASURES = ('accuracy', 'transferred', 'robust_accuracy', 'agreement', 'gap_clean', 'gap_found', 'gap_certified')

# What is compared within a seed, where teacher and start are the same for both.
COMPARED = (
    *((row, _BASE) for row in ('kd', 'cckd_t', 'cckd_t_reg')),
    ('faithful_adversarial', 'kd'),
    ('faithful_adversarial', 'rslad'),
    ('faithful_certified', 'kd'),
)

# How a teacher may be trained; each an arm of the study.
TEACHERS: Mapping[str, Mapping[str, Any]] = {
    'plain': {f'teacher.{name}': None for name in ('robust', 'epsilon', 'ramp')},
    'adversarial': {'teacher.robust': 'adversarial'},
    'ibp': {'teacher.robust': 'ibp'},
}


def run(
    configs: Mapping[str, ConfigDict],
    workdir: str | Path,
    *,
    seeds: int,
    rows: Sequence[str] = ROWS,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Any]:
    """Runs whatever of the study is not there yet, and writes `study.json`, `study.md` and `study.png` after each run.

    Args:
      configs: of each data set, by the name of its folder; their method, seed and shared networks are replaced, and
        all is measured at their `epsilon`.
      workdir: each run lies in `<workdir>/<data set>/seed<n>/<row>`.
      seeds: how many, from 0.
      rows: of `ROWS`; `separate` is always among them, since its teacher and student are the others'.
      devices: all local ones when None.

    Returns:
      What `study.json` holds.

    Raises:
      InputError: there is no such row, or a run cannot use its settings.
    """
    common.check(seeds, rows, ROWS)
    for name, config in configs.items():
        if config.epsilon is None:
            raise InputError(f'the study measures {name} at its epsilon, and there is none; set --config.epsilon')
    group = lambda config, folder, seed: _group(config, folder, seed, rows, devices)
    return common.collect(configs, workdir, seeds, group, summary=summary, render=study.render, draw=study.methods)


def summary(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds with 95 % confidence intervals, and differences within seeds, of the runs there are."""
    rows, differences = [], []
    for dataset in dict.fromkeys(record['dataset'] for record in records):
        by_row = common.by_row(records, ('teacher', *ROWS), dataset=dataset)
        for row, seeds in by_row.items():
            if seeds:
                means = {name: _mean([record[name] for record in seeds.values()]) for name in MEASURES}
                rows.append({'dataset': dataset, 'row': row, 'epsilon': next(iter(seeds.values()))['epsilon'], **means})
        for first, second in COMPARED:
            for measure in MEASURES:
                gained = common.difference(by_row[first], by_row[second], measure)
                if gained is not None:
                    differences.append(
                        {
                            'dataset': dataset,
                            'row': first,
                            'against': second,
                            'measure': measure,
                            'difference': gained._asdict(),
                            'verdict': verdict(gained),
                        }
                    )
    return {'rows': rows, 'differences': differences, 'runs': [dict(record) for record in records]}


def _mean(values: Sequence[float | None]) -> dict[str, Any] | None:
    return None if None in values else estimate(values)._asdict()


def _group(
    config: ConfigDict, folder: Path, seed: int, rows: Sequence[str], devices: Sequence[jax.Device] | None
) -> Iterable[list[dict[str, Any]]]:
    """Runs the rows of one data set and seed; yields each one's record, the first time with the teacher's before it."""
    sections = dict.fromkeys(('evaluate.calibration', 'evaluate.robustness', 'evaluate.faithfulness'), True)
    for row in dict.fromkeys((_BASE, *rows)):
        settings = {'seed': seed, 'method': row, **sections, 'evaluate.epsilons': (config.epsilon,)}
        settings['attack.epsilon'] = config.epsilon
        # Those that all runs share are measured once.
        settings['evaluate.networks'] = ('teacher', 'student') if row == _BASE else ('student',)
        if row != _BASE:
            own = config.teacher.checkpoint or str(folder / _BASE / 'teacher')
            settings |= {'teacher.checkpoint': own, 'attack.checkpoint': str(folder / _BASE / 'student')}
        if row == 'iad':
            # Its paper trusts the teacher through the first 60 of 200 epochs, and then steps.
            settings |= {'warm_up': round(0.3 * config.student.epochs), 'ramp': 0}
        results = common.run(config, settings, folder / row, devices)
        record = {'row': row, 'seed': seed, **_of_student(results)}
        yield [_of_teacher(results), record] if row == _BASE else [record]


def _of_student(results: Mapping[str, Any]) -> dict[str, Any]:
    radii = results['faithfulness']['students'].get('student')
    gap = radii[0]['gap'] if radii else dict.fromkeys(('clean', 'found', 'certified'))
    return {
        'epsilon': results['robustness']['epsilons'][0],
        'accuracy': results['student']['test_accuracy'],
        'transferred': results['student']['adversarial_accuracy'],
        'robust_accuracy': results['robustness']['networks']['student']['attacked']['worst'][0],
        'agreement': results['calibration']['relative']['student']['agreement'],
        **{f'gap_{way}': value for way, value in gap.items()},
    }


def _of_teacher(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        'row': 'teacher',
        'seed': results['seed'],
        'epsilon': results['robustness']['epsilons'][0],
        'accuracy': results['teacher']['test_accuracy'],
        'robust_accuracy': results['robustness']['networks']['teacher']['attacked']['worst'][0],
        **dict.fromkeys(('transferred', 'agreement', 'gap_clean', 'gap_found', 'gap_certified')),
    }
