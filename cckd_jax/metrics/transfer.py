"""How often the student corrects its teacher's mistakes, and how often it adds its own."""

import numpy as np


def transfer_rates(teacher_correct: np.ndarray, student_correct: np.ndarray) -> tuple[float | None, float | None]:
    r"""Success and failure rate of the transfer from teacher to student.

    Success rate: the fraction of the teacher's mistakes that the student classifies correctly,
    $\eta_S = |W_T \cap C_S| / |W_T|$. Failure rate: the fraction of the teacher's correct predictions that the student
    misclassifies, $\eta_F = |C_T \cap W_S| / |C_T|$.

    Args:
      teacher_correct: bool `[N]`; the paper uses the training set.
      student_correct: bool `[N]`, for the same examples.

    Returns:
      (success rate, failure rate), each in [0, 1], or None if its denominator is 0.

    Raises:
      ValueError: the shapes differ or are not `[N]`.

    Source: equations 7 and 8 of CCKD (arXiv:2107.06993).

    >>> transfer_rates(np.array([True, True, False, False]), np.array([True, False, True, False]))
    (0.5, 0.5)
    """
    teacher_correct, student_correct = np.asarray(teacher_correct, bool), np.asarray(student_correct, bool)
    if teacher_correct.shape != student_correct.shape or teacher_correct.ndim != 1:
        raise ValueError(f'both must be [N]; they are {teacher_correct.shape} and {student_correct.shape}')
    return _fraction(student_correct, ~teacher_correct), _fraction(~student_correct, teacher_correct)


def _fraction(values: np.ndarray, subset: np.ndarray) -> float | None:
    return float(values[subset].mean()) if subset.any() else None
