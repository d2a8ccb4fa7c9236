import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from helpers import random_case, softmax
from hypothesis import given, settings, strategies as st

from cckd_jax import evaluation
from cckd_jax.errors import InputError


def expected_error(logits, labels, bins):
    """Guo et al., one example at a time."""
    p = softmax(logits)
    members = [[] for _ in range(bins)]
    for row, label in zip(p, np.asarray(labels), strict=True):
        place = min(max(int(np.ceil(np.float32(row.max()) * bins)) - 1, 0), bins - 1)
        members[place].append((row.max(), row.argmax() == label))
    gaps = [abs(sum(c for c, _ in each) - sum(r for _, r in each)) for each in members]
    return sum(gaps) / len(p)


@given(seed=st.integers(0, 1000), bins=st.sampled_from([1, 7, 15]), scale=st.sampled_from([0.3, 2.0, 30.0]))
@settings(max_examples=6, deadline=None)
def test_calibration_errors_against_counting(seed, bins, scale):
    logits, _, labels = random_case(seed, batch=40, scale=scale)
    result = evaluation.expected_calibration_error(logits, labels, bins=bins)
    np.testing.assert_allclose(result, expected_error(logits, labels, bins), atol=1e-5)
    p = softmax(logits)
    (confidence, right) = p.max(-1).astype(np.float32), p.argmax(-1) == np.asarray(labels)
    place = np.array([(confidence < each).sum() * bins // 40 for each in confidence])
    adaptive = sum(abs((right - confidence)[place == each].sum()) for each in range(bins)) / 40
    np.testing.assert_allclose(evaluation.adaptive_calibration_error(logits, labels, bins=bins), adaptive, atol=1e-5)
    order = np.random.default_rng(seed).permutation(40)
    for measure in (evaluation.expected_calibration_error, evaluation.adaptive_calibration_error):
        np.testing.assert_allclose(measure(logits[order], labels[order]), measure(logits, labels), atol=1e-6)
        assert 0 <= measure(logits, labels) <= 1
    np.testing.assert_allclose(
        evaluation.negative_log_likelihood(logits, labels),
        -scipy.special.log_softmax(np.asarray(logits, np.float64), -1)[np.arange(40), labels].mean(),
        rtol=1e-5,
    )
    brier = np.square(p - np.eye(5)[np.asarray(labels)]).sum(-1).mean()
    np.testing.assert_allclose(evaluation.brier_score(logits, labels), brier, rtol=1e-4)


def test_reliability_by_hand():
    p = np.array([[1.0, 0.0], [0.8, 0.2], [0.8, 0.2], [0.5, 0.5]])
    logits = jnp.asarray(np.log(np.maximum(p, 1e-30)), jnp.float32)
    diagram = evaluation.reliability(logits, jnp.array([0, 0, 1, 1]), bins=4)
    np.testing.assert_allclose(diagram.edges, [0, 0.25, 0.5, 0.75, 1])
    # One half lies at the end of the second bin, which holds it.
    np.testing.assert_array_equal(diagram.count, [0, 1, 0, 3])
    np.testing.assert_allclose(diagram.confidence, [np.nan, 0.5, np.nan, 2.6 / 3], rtol=1e-6)
    np.testing.assert_allclose(diagram.accuracy, [np.nan, 0, np.nan, 2 / 3], rtol=1e-6)
    error = evaluation.expected_calibration_error(logits, jnp.array([0, 0, 1, 1]), bins=4)
    np.testing.assert_allclose(error, (0.5 + abs(2.6 - 2)) / 4, rtol=1e-5)


def test_adaptive_bins_hold_equally_many():
    # Confidences .91 to .98 share one of ten equal widths but not one of four adaptive bins.
    confidence = np.linspace(0.91, 0.98, 8)
    logits = jnp.asarray(np.log(np.stack([confidence, 1 - confidence], -1)), jnp.float32)
    labels = jnp.array([1, 1, 0, 0, 0, 0, 0, 0])
    coarse = evaluation.expected_calibration_error(logits, labels, bins=10)
    fine = evaluation.adaptive_calibration_error(logits, labels, bins=4)
    np.testing.assert_allclose(coarse, abs(6 - confidence.sum()) / 8, rtol=1e-4)
    np.testing.assert_allclose(fine, (confidence[:2].sum() + (1 - confidence[2:]).sum()) / 8, rtol=1e-4)


def test_temperature_scaling_finds_the_temperature():
    random = np.random.default_rng(0)
    logits = random.normal(scale=2.0, size=(4000, 6))
    labels = np.array([random.choice(6, p=row) for row in softmax(logits)])
    result = evaluation.fit_temperature(7.0 * logits, labels)
    assert result == pytest.approx(7.0, rel=0.1)
    fine = lambda temperature: float(
        evaluation.negative_log_likelihood(jnp.asarray(7 * logits / temperature, jnp.float32), jnp.asarray(labels))
    )
    assert fine(result) < min(fine(result * 1.05), fine(result / 1.05), fine(1.0))
    error = lambda temperature: evaluation.expected_calibration_error(
        jnp.asarray(7 * logits / temperature, jnp.float32), jnp.asarray(labels)
    )
    assert error(result) < 0.03 < 0.15 < error(1.0)


def test_temperature_scaling_at_the_ends_of_its_range():
    logits = np.array([[2.0, 0.0], [0.0, 1.0]])
    assert evaluation.fit_temperature(logits, np.array([0, 1])) == pytest.approx(0.01, rel=0.01)
    assert evaluation.fit_temperature(logits, np.array([1, 0])) == pytest.approx(1000, rel=0.01)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_teacher_agreement_by_its_parts(seed):
    student, teacher, labels = random_case(seed, scale=3.0)
    result = evaluation.teacher_agreement(teacher, student, labels)
    p, q = softmax(teacher), softmax(student)
    gap = (q - p)[np.arange(len(p)), labels]
    np.testing.assert_allclose(result.over_confidence, np.maximum(gap, 0).mean(), atol=1e-6)
    np.testing.assert_allclose(result.under_confidence, np.maximum(-gap, 0).mean(), atol=1e-6)
    np.testing.assert_allclose(result.label_gap, result.over_confidence + result.under_confidence, atol=1e-6)
    np.testing.assert_allclose(result.total_variation, np.abs(p - q).sum(-1).mean() / 2, atol=1e-6)
    np.testing.assert_allclose(result.divergence, scipy.special.rel_entr(p, q).sum(-1).mean(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(result.agreement, (p.argmax(-1) == q.argmax(-1)).mean(), rtol=1e-6)
    assert result.label_gap <= result.total_variation + 1e-6
    swapped = evaluation.teacher_agreement(student, teacher, labels)
    np.testing.assert_allclose(swapped.over_confidence, result.under_confidence, atol=1e-6)
    same = evaluation.teacher_agreement(teacher, teacher, labels)
    np.testing.assert_array_equal(jnp.stack(same), [1, 0, 0, 0, 0, 0])


def test_confidence_of_certainty_stays_finite():
    logits = jnp.array([[1e4, 0.0], [0.0, 1e4]])
    labels = jnp.array([0, 0])
    for measure in (evaluation.expected_calibration_error, evaluation.adaptive_calibration_error):
        np.testing.assert_allclose(measure(logits, labels), 0.5)
    assert all(jnp.isfinite(each) for each in evaluation.teacher_agreement(logits, -logits, labels))
    assert jax.jit(evaluation.brier_score)(logits, labels) == 1


def test_calibration_of_nothing_is_refused():
    nothing, none = jnp.zeros((0, 3)), jnp.zeros(0, int)
    for measure in (
        evaluation.reliability,
        evaluation.expected_calibration_error,
        evaluation.adaptive_calibration_error,
        evaluation.negative_log_likelihood,
        evaluation.brier_score,
    ):
        with pytest.raises(InputError, match='no examples'):
            measure(nothing, none)
    with pytest.raises(InputError, match='no examples'):
        evaluation.teacher_agreement(nothing, nothing, none)
    with pytest.raises(InputError, match=r'N > 0; they are \(0, 3\)'):
        evaluation.fit_temperature(np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(InputError, match='bins must be 1 or above, not 0'):
        evaluation.expected_calibration_error(jnp.zeros((2, 3)), jnp.zeros(2, int), bins=0)
    with pytest.raises(AssertionError):
        evaluation.brier_score(jnp.zeros((2, 3)), jnp.zeros(3, int))
