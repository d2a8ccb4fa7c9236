"""The likely cause of a teacher that does not predict the labels."""

import numpy as np
import pytest

from cckd_jax.training.plausibility import assess, describe

CLASSES = 12


def predictions(accuracy=0.9, count=600, seed=0):
    """Labels, and classes that a teacher predicts with this accuracy."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    wrong = random.uniform(size=count) >= accuracy
    return labels, np.where(wrong, random.integers(0, CLASSES, count), labels)


def logits(classes):
    return np.eye(CLASSES)[classes]


def test_a_good_teacher_is_reported_and_nothing_else():
    (labels, predicted) = predictions()
    result = assess(logits(predicted), labels)
    assert not result.is_suspicious
    assert describe('it', result) == f'it predicts {(predicted == labels).mean():.2%} of the training labels'


@pytest.mark.parametrize('accuracy', [0.4, 0.9])
def test_classes_sorted_as_text_are_found(accuracy):
    """'10' and '11' come before '2', so that classes 0 and 1 are right."""
    (labels, predicted) = predictions(accuracy)
    order = np.array(sorted(range(CLASSES), key=str))
    result = assess(logits(np.argsort(order)[predicted]), labels)
    np.testing.assert_array_equal(result.renumbering, order)
    assert result.renumbered_accuracy == pytest.approx((predicted == labels).mean(), abs=0.06)
    assert 'if its classes are renumbered (2 to 10, 3 to 11, 4 to 2' in describe('it', result)


def test_two_classes_that_are_exchanged_in_a_good_teacher_are_found():
    (labels, predicted) = predictions(0.95)
    exchanged = np.arange(CLASSES)
    exchanged[[3, 7]] = [7, 3]
    result = assess(logits(exchanged[predicted]), labels)
    assert not result.is_implausible
    assert '(3 to 7, 7 to 3)' in describe('it', result)


@pytest.mark.parametrize('count', [1, 2, 12, 60, 600])
@pytest.mark.parametrize('seed', range(5))
def test_no_numbering_explains_shuffled_rows(count, seed):
    (labels, predicted) = predictions(count=count, seed=seed)
    shuffled = np.random.default_rng(seed + 100).permutation(predicted)
    result = assess(logits(shuffled), labels)
    assert result.renumbering is None
    if count == 600:
        assert 'the rows are probably in another order than the data set' in describe('it', result)


def test_one_class_for_all_images_is_a_matter_of_scale():
    (labels, _) = predictions()
    text = describe('it', assess(logits(np.full(600, 4)), labels))
    assert '100.00% of its predictions are of one class, so its input is probably scaled differently' in text
