"""The results of a run: `results.json`, and the report and figures drawn from the run directory alone."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from cckd_jax import evaluators, processes, provenance
from cckd_jax.errors import InputError
from cckd_jax.evaluators import FinishedRun, Results
from cckd_jax.evaluators.accuracy import epochs_text, trained
from cckd_jax.io import write_json, write_text
from cckd_jax.paths import expand, network_names
from cckd_jax.report import curves, html, markdown
from cckd_jax.report.metrics import read_rows


def measure(run: FinishedRun) -> Results:
    """Computes every number of the report and writes `results.json`.

    Raises:
      InputError: an evaluator of `config.evaluate.extra` returned what JSON cannot hold.
    """
    started = time.monotonic()
    results = _facts(run)
    predictions = evaluators.predict(run)
    for name, evaluator in evaluators.with_extra(run.config.evaluate.extra).items():
        # Settings such as evaluate.calibration leave a built-in evaluator out.
        enabled = name not in evaluators.EVALUATORS or run.config.evaluate.get(name, True)
        section = evaluator.measure(run, predictions) if enabled else None
        if evaluator.shared:
            for key, values in (section or {}).items():
                # An entry without numbers is null.
                results[key] = None if values is None else results.get(key, {}) | values
        else:
            _check_json(name, section)
            results[name] = section
    networks = [*run.teachers.networks, *run.students]
    if run.baseline is not run.student:
        networks.append(run.baseline)
    training = sum(network.seconds for network in networks if network is not None)
    results['seconds'] = training + time.monotonic() - started
    write_json(run.workdir / 'results.json', results)
    return cast(Results, results)


def write_report(workdir: str | Path, results: Results | None = None) -> Path:
    """Writes `report.md`, `report.html` and the figures of a finished run, from files of its run directory alone.

    Args:
      workdir: the run directory.
      results: what `results.json` holds; read from there when None.

    Returns:
      The path of `report.md`.

    Raises:
      InputError: a file of the run directory is missing or damaged.
    """
    folder = expand(workdir)
    results = results or read(folder)
    if results is None:
        raise InputError(f'{folder / "results.json"} is missing or damaged; the command of the run makes it again')
    try:
        config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise InputError(
            f'{folder / "config.json"} cannot be read ({error}); the command of the run makes it again'
        ) from None
    text = [f'# {results["method"]} on {results["dataset"]}']
    for name, evaluator in evaluators.with_extra(config['evaluate']['extra']).items():
        section: Any = results if evaluator.shared else results.get(name)
        if section is not None:
            if evaluator.figure is not None:
                evaluator.figure(folder, section)
            text.append(evaluator.table(section).strip())
    text.append(_settings(results))
    report = '\n\n'.join(section for section in text if section) + '\n'
    interactive = {'figures/curves.png': curves.render(trained(folder, results))}
    page = html.render(report, folder, numbers=_main_numbers(results), interactive=interactive)
    write_text(folder / 'report.html', page)
    # The last file of a run: a run with `report.md` is complete.
    path = folder / 'report.md'
    write_text(path, report)
    return path


def read(workdir: Path) -> Results | None:
    """What `results.json` of a run directory holds; None if it is missing or damaged."""
    try:
        loaded = json.loads((workdir / 'results.json').read_text(encoding='utf-8'))
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        return None
    is_complete = isinstance(loaded, dict) and Results.__required_keys__ <= loaded.keys()
    return cast(Results, loaded) if is_complete else None


def summary(workdir: Path, results: Results) -> str:
    """The main numbers of a run and where its files are, in a few lines for the terminal."""
    (teacher, student, separate) = (results['teacher'], results['student'], results['separate'])
    alone = read_rows(workdir / 'separate')
    rows = [['', 'test accuracy', 'samples used', 'training']]
    rows += _networks('teacher', teacher) if teacher['model'] else []
    if teacher.get('ensemble_test_accuracy') is not None:
        rows.append(['teachers, ensemble', _percent(teacher['ensemble_test_accuracy']), '', ''])
    rows += _networks('student', student)
    if separate['test_accuracy'] is not None:
        rows.append(['separate', _percent(separate['test_accuracy']), _percent(1.0), _duration(_seconds(alone))])
    lines = _aligned(rows)
    # The first epoch compiles the step.
    saved = _seconds(alone[1:]) - _seconds(read_rows(workdir / 'student')[1:])
    if student['epochs'] == separate['epochs'] and saved >= 1:
        lines.append(f'The student trained {_duration(saved)} less than separate, which has no teacher and no gate.')
    lines.append(f'the report is in {workdir / "report.html"}, and as text in {workdir / "report.md"}')
    lines.append(f'export the student: cckd-jax export --run={workdir} --output=DIR')
    return '\n'.join(lines)


def _networks(kind: str, section: Mapping[str, Any]) -> list[list[str]]:
    several = isinstance(section['model'], list)
    count = len(section['model']) if several else 1
    column = lambda field: section[field] if several else [section[field]]
    shares = column('share_used') if 'share_used' in section else [None] * count
    rows = zip(network_names(kind, count), column('test_accuracy'), shares, column('seconds'), strict=True)
    return [[name, _percent(accuracy), _percent(share), _duration(seconds)] for name, accuracy, share, seconds in rows]


def _seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    return sum(row['epoch_seconds'] for row in rows)


def _percent(share: float | None) -> str:
    return markdown.cell(share, '.2%', missing='')


def _duration(seconds: float) -> str:
    """Of training in this run; empty for a network that was trained elsewhere."""
    return f'{seconds:,.0f} s' if seconds else ''


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column aligned left and the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = '<' + '>' * (len(widths) - 1)
    align = lambda row: [f'{text:{side}{width}}' for text, side, width in zip(row, sides, widths, strict=True)]
    return ['  '.join(align(row)).rstrip() for row in rows]


def _facts(run: FinishedRun) -> dict[str, Any]:
    (config, method) = (run.config, run.method)
    return {
        'method': config.method,
        'dataset': run.dataset.name,
        'class_names': list(run.dataset.class_names),
        'seed': config.seed,
        'commit': provenance.commit(),
        'device': f'{len(processes.all_devices(run.devices))} x {run.devices[0].device_kind}',
        'versions': provenance.versions(('cckd-jax', 'jax', 'flax', 'optax')),
        'hyperparameters': {
            **method.hyperparameters,
            'learning_rate': method.learning_rate,
            'batch_size': config.batch_size,
        },
    }


def _main_numbers(results: Mapping[str, Any]) -> dict[str, str]:
    (student, teacher) = (results['student'], results['teacher'])
    of_student = 'of the students' if isinstance(student['model'], list) else 'of the student'
    of_teacher = 'of the teachers' if isinstance(teacher['model'], list) else 'of the teacher'
    numbers = {
        f'test accuracy {of_student}': markdown.cell(student['test_accuracy'], '.2%'),
        'of the student trained alone': markdown.cell(results['separate']['test_accuracy'], '.2%', missing=''),
        of_teacher: markdown.cell(teacher['test_accuracy'], '.2%', missing=''),
        f'of the presentations trained {of_student[3:]}': markdown.cell(student['share_used'], '.2%'),
    }
    return {label: number for label, number in numbers.items() if number}


def _settings(results: Mapping[str, Any]) -> str:
    student = results['student']
    several = isinstance(student['model'], list)
    (students, epochs) = ('students', student['epochs'][0]) if several else ('student', student['epochs'])
    rows = [
        ['hyper-parameters', markdown.settings(results['hyperparameters'])],
        ['epochs', f'{epochs_text(results["teacher"])}, {students} {epochs}'],
        ['device', results['device']],
        ['versions', markdown.settings(results['versions'])],
        ['commit', results['commit'] or 'not in a git checkout'],
        ['seconds', f'{results["seconds"]:,.0f} in total; {students} {markdown.cell(student["seconds"], ",.0f")}'],
    ]
    return '\n\n'.join(
        [
            '## Settings',
            markdown.table(['', ''], rows),
            '`results.json` has every number, `*/metrics.jsonl` every epoch, and `config.json` every setting.',
        ]
    )


def _check_json(name: str, section: Any) -> None:
    try:
        json.dumps(section, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f'the evaluator {name} returned a value that results.json cannot hold: {error}; convert it to float, int, '
            'str, list or dict, and NaN to None'
        ) from None
