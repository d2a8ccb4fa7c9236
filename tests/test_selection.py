import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_case, softmax
from hypothesis import given, settings, strategies as st

from cckd_jax import selection
from cckd_jax.errors import InputError


def test_margin_by_hand():
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.45, 0.45], [1 / 3, 1 / 3, 1 / 3]]))
    np.testing.assert_allclose(selection.margin(logits, temperature=1.0), [0.5, 0.0, 0.0], atol=1e-6)
    # The notes' example: a gap of 15 among ten classes.
    gap = jnp.zeros((1, 10)).at[0, 3].set(15.0)
    np.testing.assert_allclose(selection.margin(gap, temperature=1.0), [1.0], atol=1e-4)
    np.testing.assert_allclose(selection.margin(gap), [0.1], atol=0.005)


def test_threshold_by_hand():
    np.testing.assert_allclose(selection.threshold(0, alpha=0.01), 0.0)
    np.testing.assert_allclose(selection.threshold(100, alpha=0.01), 1 - np.exp(-1), rtol=1e-6)
    np.testing.assert_allclose(selection.threshold(1, alpha=1e-6), 1e-6, rtol=1e-4)  # no cancellation
    values = [float(selection.threshold(epoch, alpha=0.02)) for epoch in range(50)]
    assert all(later > earlier for earlier, later in itertools.pairwise(values))


def test_the_gate_by_hand():
    # wrong; right and sure; right and unsure; a tie that argmax resolves to the label
    logits = jnp.log(jnp.array([[0.2, 0.8], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5]]))
    labels = jnp.array([0, 0, 0, 0])
    keep = lambda epoch: selection.self_regulate(logits, labels, epoch, alpha=0.01, temperature=1.0).tolist()
    assert keep(0) == [True, False, False, False]  # eta = 0: only the misclassified
    assert keep(50) == [True, False, True, True]  # eta = .39
    assert keep(1000) == [True, True, True, True]  # eta = 1 - e^-10


@given(seed=st.integers(0, 10**6), epoch=st.integers(0, 300), alpha=st.floats(0.0, 0.1))
@settings(max_examples=25, deadline=None)
def test_properties(seed, epoch, alpha):
    (logits, _, labels) = random_case(seed)
    probabilities = np.sort(softmax(logits, 20.0), -1)
    margin = probabilities[:, -1] - probabilities[:, -2]
    np.testing.assert_allclose(selection.margin(logits), margin, atol=1e-6)
    keep = selection.self_regulate(logits, labels, epoch, alpha=alpha)
    assert keep.dtype == bool
    eta = 1 - np.exp(-alpha * epoch)
    sure = np.abs(margin - eta) > 1e-5
    expected = (np.argmax(logits, -1) != np.asarray(labels)) | (margin < eta)
    np.testing.assert_array_equal(np.asarray(keep)[sure], expected[sure])
    later = selection.self_regulate(logits, labels, epoch + 10, alpha=alpha)
    assert (later | ~keep).all()  # for the same logits, who is kept is kept later as well


def test_the_epoch_may_be_traced():
    (logits, _, labels) = random_case(1)
    gate = jax.jit(lambda epoch: selection.self_regulate(logits, labels, epoch, alpha=0.01))
    for epoch in (0, 20, 60):
        expected = selection.self_regulate(logits, labels, epoch, alpha=0.01)
        np.testing.assert_array_equal(gate(jnp.int32(epoch)), expected)


def test_bad_values_are_refused():
    (logits, _, labels) = random_case(2)
    with pytest.raises(ValueError, match=r'alpha=-0\.1 must be in'):
        selection.threshold(1, alpha=-0.1)
    with pytest.raises(ValueError, match=r'temperature=0\.0 must be in'):
        selection.margin(logits, temperature=0.0)
    with pytest.raises(ValueError, match='at least two classes'):
        selection.margin(jnp.zeros((3, 1)))
    with pytest.raises(AssertionError):
        selection.self_regulate(logits, labels.astype(float), 1, alpha=0.1)


def test_labels_of_few_bits_are_compared_with_many_classes():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 300)), jnp.float32)
    labels = jnp.array([0, 5, 44, 127])
    keep = lambda labels: selection.self_regulate(logits, labels, 3, alpha=0.1).tolist()
    assert keep(labels.astype(jnp.int8)) == keep(labels.astype(jnp.uint8)) == keep(labels)
    with pytest.raises(InputError, match=r'label -1 must be in \[0, 300\)'):
        keep(jnp.array([0, 5, 44, -1], jnp.int8))


def test_the_longest_rest_fits_int32():
    logits = jnp.log(jnp.array([[0.01, 0.99]]))
    visit = lambda rest: selection.next_visit(logits, jnp.int32(3), alpha=0.0, longest_rest=rest, temperature=1.0)
    assert visit(2**31 - 1).tolist() == [2**30 + 1]
    with pytest.raises(InputError, match='longest_rest=2147483648 must be a whole number from 0 to'):
        visit(2**31)
