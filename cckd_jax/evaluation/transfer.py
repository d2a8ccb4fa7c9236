"""Does the student repeat its teacher's mistakes, and does it add its own?"""

import numpy as np


def transfer_rates(teacher_correct: np.ndarray, student_correct: np.ndarray) -> tuple[float | None, float | None]:
    r"""Success and failure rate of the transfer.

    $\eta_S = |W_T \cap C_S| / |W_T|$: of what the teacher got wrong, the share that the student gets right.
    $\eta_F = |C_T \cap W_S| / |C_T|$: of what the teacher got right, the share that the student gets wrong.

    Args:
      teacher_correct: bool `[N]`, over the training set in the paper.
      student_correct: bool `[N]`.

    Returns:
      (success rate, failure rate), each in [0, 1], or None where the denominator is empty.

    Raises:
      ValueError: the shapes differ or are not `[N]`.

    Source: equations 7 and 8 of CCKD (arXiv:2107.06993).

    >>> transfer_rates(np.array([True, True, False, False]), np.array([True, False, True, False]))
    (0.5, 0.5)
    """
    teacher_correct, student_correct = np.asarray(teacher_correct, bool), np.asarray(student_correct, bool)
    if teacher_correct.shape != student_correct.shape or teacher_correct.ndim != 1:
        raise ValueError(f'both must be [N]; they are {teacher_correct.shape} and {student_correct.shape}')
    return _share(student_correct, ~teacher_correct), _share(~student_correct, teacher_correct)


def _share(what: np.ndarray, among: np.ndarray) -> float | None:
    return float(what[among].mean()) if among.any() else None
