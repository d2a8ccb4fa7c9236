"""`cckd-jax compare`: runs in hand-written directories, side by side."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cckd_jax import __main__ as command, comparison, config, interrupt
from cckd_jax.comparison import settings
from cckd_jax.comparison.figure import differing_most


@pytest.fixture(autouse=True)
def _keep_the_handler_of_pytest(monkeypatch):
    monkeypatch.setattr(interrupt, 'exit_at_once', lambda: None)


def write_run(folder, *, accuracy=0.75, seconds=2.0, rows=(), changes=None, hyperparameters=None, **sections):
    """A run directory; `changes` are settings with dotted names."""
    names = [f'student_{index}' for index in range(len(accuracy))] if isinstance(accuracy, list) else ['student']
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    changed = config.default()
    for name, value in (changes or {}).items():
        changed.update_from_flattened_dict({name: value})
    (folder / 'config.json').write_text(json.dumps(config.as_dict(changed)))
    student = {'test_accuracy': accuracy, 'seconds': seconds}
    results = {'hyperparameters': hyperparameters or {}, 'student': student, **sections}
    (folder / 'results.json').write_text(json.dumps(results))
    return folder


@pytest.fixture
def two_runs(tmp_path):
    curve = [{'epoch': epoch, 'train_accuracy': accuracy} for epoch, accuracy in enumerate([0.5, None, 0.75])]
    attacked = {
        'networks': {'student': {'attacked': {'fgsm': [0.5, 0.375], 'pgd': [0.25, 0.4]}}},
        'epsilons': [0.1, 0.2],
    }
    errors = {'networks': {'student': {'expected_calibration_error': 0.0625}}}
    kd = write_run(
        tmp_path / 'seed0' / 'kd',
        rows=curve,
        changes={'method': 'kd', 'alpha': 0.5, 'save_seconds': 1.0},
        hyperparameters={'temperature': 20.0, 'learning_rate': 0.01},
        robustness=attacked,
        calibration=errors,
        teacher={'test_accuracy': [0.5, 0.25], 'ensemble_test_accuracy': 0.625},
    )
    peers = write_run(
        tmp_path / 'seed0' / 'dml',
        accuracy=[0.5, 0.9],
        seconds=[1.0, 3.5],
        changes={'method': 'dml', 'temperature': 20.0},
        hyperparameters={'temperature': 20.0, 'learning_rate': 0.01},
        teacher={'test_accuracy': None},
        robustness=None,
    )
    return [kd, peers]


def test_the_table_has_a_row_for_each_student_and_empty_cells(two_runs, capsys):
    assert command.main(['compare', *map(str, two_runs)]) == 0
    output = capsys.readouterr().out
    (header, _, *rows) = output.partition('## Measures\n\n')[2].strip().splitlines()
    columns = ['test accuracy', 'ensemble of teachers', 'ECE', 'seconds of the student']
    attacks = ['lowest under attack, ε = 0.1', 'lowest under attack, ε = 0.2']
    assert header == '| run | ' + ' | '.join([*columns, *attacks]) + ' |'
    assert rows == [
        '| kd | 75.00% | 62.50% | 6.25% | 2.0 | 25.00% | 37.50% |',
        '| dml student 0 | 50.00% | | | 1.0 | | |',
        '| dml student 1 | 90.00% | | | 3.5 | | |',
    ]


def test_only_settings_that_have_an_effect_differ(two_runs):
    # alpha is no hyper-parameter of kd, and both methods use the temperature 20.
    assert settings.differing(comparison.load(two_runs)) == {'method': ['kd', 'dml']}


def test_a_setting_that_is_younger_than_a_run_has_its_default(tmp_path):
    runs = [write_run(tmp_path / name, changes={'batch_size': size}) for name, size in (('a', 512), ('b', 64))]
    for run in runs:
        old = json.loads((run / 'config.json').read_text())
        del old['precision'], old['student']
        if run.name == 'a':
            del old['batch_size']
        (run / 'config.json').write_text(json.dumps(old))
    write_run(tmp_path / 'c', changes={'student.epochs': 7})
    differing = settings.differing(comparison.load([*runs, tmp_path / 'c']))
    assert differing == {'batch_size': [512, 64, 512], 'student.epochs': [200, 200, 7]}


def test_paths_differ_by_their_last_two_parts(tmp_path):
    paths = ['/home/a/separate/teacher', '/data/separate/teacher', '/data/noisy/teacher']
    runs = [write_run(tmp_path / f'{i}', changes={'teacher.checkpoint': path}) for i, path in enumerate(paths)]
    assert settings.differing(comparison.load(runs[:2])) == {}
    names = ['separate/teacher', 'noisy/teacher']
    assert settings.differing(comparison.load(runs[1:])) == {'teacher.checkpoint': names}


def test_the_files_hold_everything(two_runs, tmp_path, capsys):
    output = tmp_path / 'new' / 'output'
    assert command.main(['compare', *map(str, two_runs), f'--output={output}']) == 0
    assert (output / 'comparison.md').read_text().startswith(capsys.readouterr().out.strip())
    with (output / 'comparison.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(row['run'], row['student'], row['method']) for row in rows] == [
        ('kd', '', 'kd'),
        ('dml', '0', 'dml'),
        ('dml', '1', 'dml'),
    ]
    assert [row['expected_calibration_error'] for row in rows] == ['0.0625', '', '']
    page = (output / 'comparison.html').read_text()
    assert page.count('data:image/png;base64,iVBOR') == 2
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert '<td data-value="0.0625">6.25%</td>' in page
    assert (output / 'comparison.png').stat().st_size > 10_000


def test_names_of_runs_are_escaped(tmp_path):
    runs = comparison.load([write_run(tmp_path / 'a|<b>', changes={'seed': 1}), write_run(tmp_path / 'c')])
    compared = comparison.compare(runs)
    assert '| a\\|<b> |' in comparison.render_markdown(compared)
    page = comparison.render_html(compared, light=b'', dark=b'')
    assert '>a|&lt;b&gt;<' in page
    assert '<b>' not in page


def test_the_figure_shows_what_differs_most(tmp_path):
    errors = [{'networks': {'student': {'expected_calibration_error': value}}} for value in (0.01, 0.04)]
    runs = [
        write_run(tmp_path / f'{index}', accuracy=accuracy, calibration=errors[index], separate={'test_accuracy': 0.5})
        for index, accuracy in enumerate([0.75, 0.5])
    ]
    shown = differing_most(comparison.compare(comparison.load(runs)))
    assert [column.title for column in shown] == ['test accuracy', 'ECE', 'student alone']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'no run to compare; give run directories'),
        (['nowhere'], 'nowhere is not a run directory: there is no such folder'),
        (['empty'], 'empty is not a run directory: it has no config.json'),
        (['.'], '. is not a run directory: it has no config.json; it contains runs: give those, such as damaged'),
        (['unfinished'], 'the run in unfinished is not finished: it has no results.json; its command finishes it: '),
        (['damaged'], 'damaged/results.json is damaged (Expecting value: line 1 column 1 (char 0)); the command of'),
        (['listed'], 'listed/config.json is damaged (it is not a JSON object)'),
        (['older'], 'older/results.json is damaged: it has no student.test_accuracy'),
        (['good', 'good/../good'], 'good/../good is given twice'),
        (['good', '--output=good/config.json'], 'cannot write to --output=good/config.json (File exists)'),
        (['good', '--otput=x'], 'unrecognized arguments: --otput=x; see cckd-jax compare --help'),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path('empty').mkdir()
    for name in ('good', 'unfinished', 'damaged', 'listed', 'older'):
        write_run(Path(name))
    Path('unfinished/results.json').unlink()
    Path('damaged/results.json').write_text('half')
    Path('listed/config.json').write_text('[]')
    Path('older/results.json').write_text('{}')
    assert command.main(['compare', *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'error: {message}')


def test_comparing_imports_neither_jax_nor_what_draws(two_runs):
    script = (
        'import sys; from cckd_jax.cli import compare; compare.main(["compare", *sys.argv[1:]]); '
        'assert not {"jax", "tensorflow", "matplotlib"} & set(sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', script, *map(str, two_runs)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
