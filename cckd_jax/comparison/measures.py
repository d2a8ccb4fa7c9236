"""The measures of a student, looked up in the results of its run."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cckd_jax.comparison.runs import Run, Student


class Measure(NamedTuple):
    """A column of the comparison.

    Attributes:
      name: in CSV, and of the key in `results.json`.
      title: in tables and figures.
      path: keys into `results.json`, where `{student}` stands for the student's name. Of a list with one item for each
        student, the student's own counts.
      form: format of a cell.
    """

    name: str
    title: str
    path: tuple[str, ...]
    form: str = '.2%'

    @property
    def is_share(self) -> bool:
        """Whether values lie in [0, 1] and tables show percent."""
        return self.form.endswith('%')


_CALIBRATION = ('calibration', 'networks', '{student}')
MEASURES = (
    Measure('test_accuracy', 'test accuracy', ('student', 'test_accuracy')),
    Measure('train_accuracy', 'training accuracy', ('student', 'train_accuracy')),
    Measure('separate_test_accuracy', 'student alone', ('separate', 'test_accuracy')),
    Measure('teacher_test_accuracy', 'teacher', ('teacher', 'test_accuracy')),
    Measure('teachers_ensemble_test_accuracy', 'ensemble of teachers', ('teacher', 'ensemble_test_accuracy')),
    Measure('students_ensemble_test_accuracy', 'ensemble of students', ('peers', 'ensemble_test_accuracy')),
    Measure('samples_used', 'samples used', ('student', 'samples_used'), ',d'),
    Measure('share_used', 'share used', ('student', 'share_used')),
    Measure('success_rate', 'success', ('student', 'success_rate')),
    Measure('failure_rate', 'failure', ('student', 'failure_rate'), '.3%'),
    Measure('adversarial_accuracy', 'under transfer attack', ('student', 'adversarial_accuracy')),
    Measure('expected_calibration_error', 'ECE', (*_CALIBRATION, 'expected_calibration_error')),
    Measure('negative_log_likelihood', 'NLL', (*_CALIBRATION, 'negative_log_likelihood'), '.4f'),
    Measure('agreement', 'agreement with teacher', ('calibration', 'relative', '{student}', 'agreement')),
    Measure('student_seconds', 'seconds of the student', ('student', 'seconds'), ',.1f'),
    Measure('seconds', 'seconds of the run', ('seconds',), ',.1f'),
    Measure('parameters', 'parameters', ('student', 'parameters'), ',d'),
)


def measure(run: Run, student: Student) -> dict[Measure, float | None]:
    """The measures of a student; None for what its run did not measure.

    Args:
      run: a finished run.
      student: one of its students.

    Returns:
      By measure: those of `MEASURES`, and for each radius of the robustness section the lowest accuracy under any of
      its attacks.
    """
    values = {column: _number(_look_up(run.results, column.path, student)) for column in MEASURES}
    return values | _lowest_accuracies(run, student)


def _lowest_accuracies(run: Run, student: Student) -> dict[Measure, float | None]:
    attacked = _look_up(run.results, ('robustness', 'networks', '{student}', 'attacked'), student)
    epsilons = _look_up(run.results, ('robustness', 'epsilons'), student)
    if not isinstance(attacked, Mapping) or not isinstance(epsilons, Sequence):
        return {}
    columns: dict[Measure, float | None] = {}
    for accuracies in zip(epsilons, *attacked.values(), strict=False):
        (epsilon, *under_attack) = accuracies
        path = ('robustness', 'networks', '{student}', 'attacked')
        column = Measure(f'lowest_accuracy_{epsilon:g}', f'lowest under attack, ε = {epsilon:g}', path)
        columns[column] = min((value for value in under_attack if value is not None), default=None)
    return columns


def _look_up(results: Any, path: Sequence[str], student: Student) -> Any:
    """The value at a path; None if a section is missing or null. Of a list for each student, the student's own."""
    value = results
    for key in path:
        value = value.get(key.format(student=student.name)) if isinstance(value, Mapping) else None
    if isinstance(value, list) and path[0] == 'student':
        return value[student.number] if student.number is not None and student.number < len(value) else None
    return value


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) else None
