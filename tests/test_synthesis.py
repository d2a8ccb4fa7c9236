"""Parts of a synthesis: class similarity, Dirichlet targets, input optimisation, transformations and labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Flat, random_case, random_network

from cckd_jax import losses, synthesis
from cckd_jax.errors import InputError
from cckd_jax.synthesis import inputs, transformations, zskd


def test_similarity_is_symmetric_with_ones_on_the_diagonal():
    kernel = np.random.default_rng(0).normal(size=(84, 10)).astype(np.float32)
    similarity = np.asarray(synthesis.class_similarity(kernel))
    np.testing.assert_allclose(similarity, similarity.T, atol=1e-6)
    np.testing.assert_allclose(similarity.diagonal(), 1, atol=1e-6)
    norms = np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(similarity[2, 7], kernel[:, 2] @ kernel[:, 7] / (norms[2] * norms[7]), atol=1e-6)
    with pytest.raises(InputError, match='only zero weights'):
        synthesis.class_similarity(kernel * (np.arange(10) > 0))


@pytest.mark.parametrize('beta', [1.0, 0.1])
def test_concentrations_of_a_row_reach_from_the_floor_to_beta(beta):
    kernel = np.random.default_rng(0).normal(size=(20, 10)).astype(np.float32)
    rows = np.asarray(synthesis.impression_concentrations(synthesis.class_similarity(kernel), beta))
    np.testing.assert_allclose(rows.min(1), 1e-4, rtol=1e-3)
    np.testing.assert_allclose(rows.max(1), beta + 1e-4, rtol=1e-5)
    np.testing.assert_allclose(rows.diagonal(), rows.max(1))


def test_targets_have_the_mean_of_their_dirichlet_and_a_small_beta_sharpens_them():
    similarity = synthesis.class_similarity(np.random.default_rng(0).normal(size=(20, 4)))
    peaks = []
    for beta in (1.0, 0.1):
        labels, targets = zskd.draw_targets(jax.random.key(0), similarity, (beta,), 20_000)
        assert np.isfinite(targets).all()
        np.testing.assert_allclose(targets.sum(1), 1, atol=1e-5)
        alpha = np.asarray(synthesis.impression_concentrations(similarity, beta), np.float64)
        measured = np.stack([targets[labels == label].mean(0) for label in range(4)])
        np.testing.assert_allclose(measured, alpha / alpha.sum(1, keepdims=True), atol=0.02)
        peaks.append(targets.max(1).mean())
    assert peaks[0] + 0.1 < peaks[1]
    assert peaks[1] > 0.9


def test_classes_and_betas_take_turns():
    labels = zskd.draw_targets(jax.random.key(0), jnp.eye(2), (1e4, 1e-3), 4)[0]
    assert labels.tolist() == [0, 1, 0, 1]
    both = zskd.draw_targets(jax.random.key(0), jnp.ones((2, 2)), (1e4, 1e-3), 400)[1].max(1).reshape(-1, 4)
    assert both[:, :2].max() < 0.55 < 0.9 < np.median(both[:, 2:])


def test_images_approach_their_targets_and_the_teacher_does_not_change():
    network = random_network(Flat(num_classes=4, width=1.0), (6, 6, 1), scale=3.0)
    before = jax.tree.map(np.array, network.variables)
    targets = np.float32([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]])

    def loss(constants, images):
        logits = network.module.apply(constants, images)
        return jnp.sum(losses.soft_cross_entropy(logits, targets, temperature=1.0))

    start = jax.random.uniform(jax.random.key(0), (2, 6, 6, 1))
    optimise = synthesis.make_input_optimizer(loss, steps=150, learning_rate=0.05)
    images, value = optimise(network.variables, start)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    entropy = -np.sum(targets * np.log(targets))
    assert entropy - 1e-3 < float(value) < entropy + 0.25 * (float(loss(network.variables, start)) - entropy)
    jax.tree.map(np.testing.assert_array_equal, network.variables, before)
    # Images of one batch do not depend on each other.
    single = synthesis.make_input_optimizer(
        lambda constants, images: (
            loss(constants, jnp.concatenate([images, images]))
            - jnp.sum(losses.soft_cross_entropy(network.module.apply(constants, images), targets[1:], temperature=1.0))
        ),
        steps=150,
        learning_rate=0.05,
    )
    np.testing.assert_allclose(single(network.variables, start[:1])[0], images[:1], atol=1e-3)


def test_the_step_at_which_a_loss_becomes_infinite_is_named():
    # Five steps of 0.1 reach 0.5, where the sixth loss is infinite.
    optimise = synthesis.make_input_optimizer(
        lambda _, images: jnp.where(images.max() > 0.45, jnp.inf, -jnp.sum(images)), steps=20, learning_rate=0.1
    )
    with pytest.raises(synthesis.NonFiniteSynthesis, match=r'infinite in step 6; .*transfer.learning_rate'):
        optimise(None, jnp.zeros((1, 2, 2, 1)))


def test_the_loop_of_accelerators_takes_the_same_steps(monkeypatch):
    optimise = lambda: synthesis.make_input_optimizer(
        lambda target, images: jnp.sum((images - target) ** 2), steps=30, learning_rate=0.02
    )(0.7, jnp.full((1, 2, 2, 1), 0.2))
    one_by_one = optimise()
    monkeypatch.setattr(inputs.jax, 'default_backend', lambda: 'gpu')
    np.testing.assert_allclose(optimise()[0], one_by_one[0], atol=1e-6)


def test_there_are_106_transformations_and_those_with_exact_results_are_exact():
    (maps, fills, noise) = transformations.transformations()
    assert len(maps) == len(fills) == len(noise) == 106
    assert noise.any(1).sum() == 3
    image = jax.random.uniform(jax.random.key(0), (10, 10, 2))
    warped = [transformations.warp(image, *row) for row in zip(maps, fills, strict=True)]
    exact = {
        'original': image,
        'left to right': image[:, ::-1],
        'up and down': image[::-1],
        'transposed': image.transpose(1, 0, 2),
        'turned left': jnp.rot90(image),
        'turned right': jnp.rot90(image, -1),
    }
    for name, wanted in exact.items():
        assert any(np.allclose(each, wanted, atol=1e-5) for each in warped), name


def test_a_shift_moves_by_a_fifth_and_leaves_white():
    image = jnp.zeros((11, 11, 1)).at[5, 5].set(0.5)
    moved = transformations.warp(image, jnp.asarray(transformations._shift(0.2, 0.0)[:2], jnp.float32), 1.0)
    assert float(moved[7, 5, 0]) == pytest.approx(0.5)
    assert float(moved[0].min()) == 1.0
    assert float(moved[3:, :].sum()) == pytest.approx(0.5)


def test_a_key_decides_the_transformation():
    images = jnp.broadcast_to(jax.random.uniform(jax.random.key(1), (1, 8, 8, 1)), (40, 8, 8, 1))
    changed = synthesis.augment(jax.random.split(jax.random.key(0), 40), images)
    assert len(np.unique(np.asarray(changed).reshape(40, -1).round(4), axis=0)) > 20
    np.testing.assert_array_equal(synthesis.augment(jax.random.split(jax.random.key(0), 40), images), changed)


@pytest.mark.parametrize(
    ('source', 'reject', 'labels', 'kept'),
    [
        ('nominal', False, [0, 1, 2], [0, 1, 2]),
        ('nominal', True, [0, 2], [0, 2]),
        ('soft', False, [1, 2, 2], [0, 1, 2]),
        ('soft', True, [2, 2], [1, 2]),
        ('teacher', False, [0, 2, 2], [0, 1, 2]),
    ],
)
def test_where_labels_come_from(source, reject, labels, kept):
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    logits = np.float32([[9, 0, 0], [0, 0, 9], [0, 0, 9]])
    targets = np.float32([[0.2, 0.8, 0], [0, 0.1, 0.9], [0, 0, 1]])
    samples = synthesis.Samples(images, np.int32([0, 1, 2]), targets)
    transfer = synthesis.label_samples(samples, logits, source=source, reject=reject)
    assert transfer.labels.tolist() == labels
    assert transfer.images.ravel().tolist() == kept
    assert transfer.rejected == 3 - len(kept)
    assert transfer.agreement == pytest.approx(1 if source == 'teacher' else 2 / 3)
    assert (transfer.targets is not None) == (source == 'soft')


def test_rejecting_every_sample_is_an_error():
    samples = synthesis.Samples(np.zeros((1, 1, 1, 1), np.uint8), np.int32([1]))
    with pytest.raises(InputError, match='classifies no sample as the class it was made for'):
        synthesis.label_samples(samples, np.float32([[1, 0]]), source='nominal', reject=True)


def test_losses_of_a_certain_distribution_are_those_of_its_class():
    (student, teacher, labels) = random_case(0)
    certain = jax.nn.one_hot(labels, 5)
    np.testing.assert_allclose(losses.cross_entropy(student, certain), losses.cross_entropy(student, labels), rtol=1e-5)
    for loss in (losses.kd, losses.cckd_l, losses.cckd_t):
        np.testing.assert_allclose(loss(student, teacher, certain), loss(student, teacher, labels), rtol=1e-5)


def test_the_confidence_in_a_distribution_is_a_scalar_product():
    (_, teacher, labels) = random_case(0)
    soft = 0.5 * jax.nn.one_hot(labels, 5) + 0.1
    expected = 0.5 * losses.confidence(teacher, labels) + 0.1
    np.testing.assert_allclose(losses.confidence(teacher, soft), expected, rtol=1e-5)
    targets = losses.confidence_targets(teacher, soft)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)


def test_unfinished_work_is_read_back_only_with_its_key(tmp_path):
    state = {'images': np.arange(4, dtype=np.uint8)}
    partial = synthesis.Partial(tmp_path / 'partial.npz', 'a', seconds=0)
    assert partial.load() is None
    partial.save(state)
    np.testing.assert_array_equal(partial.load()['images'], state['images'])
    assert synthesis.Partial(tmp_path / 'partial.npz', 'b').load() is None
    partial.remove()
    assert partial.load() is None
