"""Whether a teacher that was trained elsewhere predicts the labels, and the usual causes if it does not."""

from typing import NamedTuple

import numpy as np

# Classes to renumber that a message lists.
_LISTED = 12
# A share of the predictions in one class that no balanced data set has.
_NEARLY_ALL = 0.9


class Plausibility(NamedTuple):
    """How a teacher's predictions agree with the labels of the training set.

    Attributes:
      accuracy: share of the labels that it predicts.
      chance: share that its predictions would have in a random order.
      is_implausible: whether the accuracy is at chance or below it.
      renumbering: int `[C]`, the class that each of its classes would become, if another numbering of the classes
        explains its predictions better; else None.
      renumbered_accuracy: accuracy with that numbering, on examples that did not choose it.
      commonest: share of the class that it predicts most often.
    """

    accuracy: float
    chance: float
    is_implausible: bool
    renumbering: np.ndarray | None
    renumbered_accuracy: float | None
    commonest: float

    @property
    def is_suspicious(self) -> bool:
        """Whether the accuracy is at chance, or another numbering of the classes explains the predictions better."""
        return self.is_implausible or self.renumbering is not None


def assess(logits: np.ndarray, labels: np.ndarray) -> Plausibility:
    """Compares a teacher's predictions with the labels.

    An accuracy `a` is implausible if it exceeds the accuracy `c` that the predictions would have in a random order by
    so little that

        (a - c) / (1 - c) <= min(0.1, 1 / C)

    which for balanced classes is about twice chance, 19% for C = 10. The threshold is our choice. The numbering of the
    classes that agrees best with the labels is chosen on half of the examples, and its accuracy is measured on the
    other half, because the best of many numberings exceeds chance on the examples that chose it.

    Args:
      logits: float `[N, C]`.
      labels: int `[N]`.

    >>> labels = np.arange(400) % 4
    >>> rolled = assess(np.eye(4)[(labels + 1) % 4], labels)
    >>> rolled.is_implausible, rolled.renumbering.tolist(), rolled.renumbered_accuracy
    (True, [3, 0, 1, 2], 1.0)
    """
    classes = logits.shape[-1]
    predictions = logits.argmax(-1)
    accuracy = float((predictions == labels).mean())
    (predicted, actual) = (np.bincount(values, minlength=classes) / len(labels) for values in (predictions, labels))
    chance = float(predicted @ actual)
    (choosing, held_out) = np.array_split(np.random.default_rng(0).permutation(len(labels)), 2)
    renumbering = _best_numbering(predictions[choosing], labels[choosing], classes)
    renumbered: float | None = None
    if len(held_out):
        renumbered = float((renumbering[predictions[held_out]] == labels[held_out]).mean())
        # Three standard deviations of a rate.
        noise = 3 * np.sqrt(max(chance * (1 - chance), 0.01) / len(held_out))
        if renumbered - max(accuracy, chance) <= max(0.1, noise):
            renumbered = None
    return Plausibility(
        accuracy=accuracy,
        chance=chance,
        is_implausible=accuracy - chance <= min(0.1, 1 / classes) * (1 - chance),
        renumbering=None if renumbered is None else renumbering,
        renumbered_accuracy=renumbered,
        commonest=float(predicted.max()),
    )


def describe(teacher: str, result: Plausibility) -> str:
    """The accuracy of a teacher in one line, with the likely cause if it is implausible.

    >>> describe('the teacher', assess(np.eye(2), np.arange(2)))
    'the teacher predicts 100.00% of the training labels'
    """
    text = f'{teacher} predicts {result.accuracy:.2%} of the training labels'
    if result.renumbering is not None and result.renumbered_accuracy is not None:
        moved = [f'{old} to {new}' for old, new in enumerate(result.renumbering) if old != new]
        listed = ', '.join(moved[:_LISTED]) + (', ...' if len(moved) > _LISTED else '')
        return (
            f'{text}, and {result.renumbered_accuracy:.2%} if its classes are renumbered ({listed}): '
            'its classes are probably numbered differently than those of the data set'
        )
    if not result.is_implausible:
        return text
    text += f', and in a random order it would predict {result.chance:.2%}'
    if result.commonest > _NEARLY_ALL:
        return (
            f'{text}: {result.commonest:.2%} of its predictions are of one class, so its input is probably scaled '
            'differently (range, mean, std)'
        )
    return (
        f'{text}: the rows are probably in another order than the data set, or its input is scaled differently; '
        'no other numbering of the classes explains it'
    )


def _best_numbering(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment  # takes a tenth of a second, and most runs train their teacher

    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (predictions, labels), 1)
    (_, renumbering) = linear_sum_assignment(counts, maximize=True)
    return renumbering
