"""Few-shot distillation: samples by class, the Gaussian process by hand, and pseudo-examples that disagree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import digits_config, optimised, tiny_config

from cckd_jax import experiment, synthesis
from cckd_jax.data import Split
from cckd_jax.errors import InputError
from cckd_jax.synthesis import fskd, gaussian_process, samples
from cckd_jax.synthesis.gaussian_process import Kernel

SMALL = {'transfer.name': 'fskd', 'transfer.images': 32, 'transfer.steps': 16, 'transfer.num_samples': 20}


def test_samples_are_stratified_and_follow_the_seed(digits):
    chosen = [samples.choose(jax.random.key(seed), digits.train, 43) for seed in (0, 0, 1)]
    counts = np.bincount(chosen[0].labels)
    assert (counts.min(), counts.max(), counts.sum()) == (4, 5, 43)
    assert chosen[0].fingerprint() == chosen[1].fingerprint() != chosen[2].fingerprint()
    rare = Split(np.zeros((9, 1, 1, 1), np.uint8), np.int32([0, 1, 1, 1, 1, 1, 1, 1, 1]))
    assert np.bincount(samples.choose(jax.random.key(0), rare, 6).labels).tolist() == [1, 5]


def test_a_process_on_two_points_is_that_by_hand():
    kernel = Kernel(*map(jnp.log, (2.0, 1.5, 0.3)))
    points, targets = jnp.array([[0.0], [3.0]]), jnp.eye(2)
    variance, noise = 1.5**2, 0.3**2 + 1e-5 * 1.5**2
    near = lambda distance: variance * np.exp(-(distance**2) / 8)
    matrix = np.array([[variance + noise, near(3)], [near(3), variance + noise]])
    weights = np.linalg.inv(matrix) @ np.array([[0.5, -0.5], [-0.5, 0.5]])
    expected = 0.5 + np.array([near(1), near(2)]) @ weights
    process = gaussian_process.condition(kernel, points, targets)
    np.testing.assert_allclose(process.mean(jnp.array([[1.0]]))[0], expected, rtol=1e-5)
    np.testing.assert_allclose(process.log_probabilities(jnp.array([[1.0]]))[0], np.log(expected), rtol=1e-4)
    residual = np.array([0.5, -0.5])
    density = -residual @ np.linalg.inv(matrix) @ residual / 2 - np.log(np.linalg.det(matrix)) / 2 - np.log(2 * np.pi)
    likelihood = gaussian_process.log_marginal_likelihood(kernel, points, targets)
    assert float(likelihood) == pytest.approx(2 * density, rel=1e-4)


def test_a_process_classifies_most_digits_and_doubts_what_is_far_away(digits):
    chosen = samples.choose(jax.random.key(0), digits.train, 100)
    targets = jax.nn.one_hot(chosen.labels, 10)
    process = gaussian_process.fit(chosen.images / np.float32(255), targets)
    outputs = np.asarray(process.log_probabilities(digits.test.images / np.float32(255)))
    assert (outputs.argmax(1) == digits.test.labels).mean() > 0.85
    np.testing.assert_allclose(np.exp(outputs).sum(1), 1, rtol=1e-4)
    far = process.log_probabilities(jnp.full((1, 28, 28, 1), 9.0))
    np.testing.assert_allclose(np.exp(far), 0.1, atol=1e-3)


class Memory:
    """A `Partial` that keeps all states."""

    def __init__(self):
        self.saved = []

    def load(self):
        return None

    def save(self, state):
        self.saved.append(state)


def problem(partial, **changes):
    random = np.random.default_rng(0)
    real = {'images': random.integers(0, 256, (12, 8, 8, 1)).astype(np.uint8), 'labels': np.int32([0, 1, 2] * 4)}
    settings = {**fskd.FSKD.defaults, 'images': 30, 'steps': 16, **changes}
    return synthesis.Problem(None, (8, 8, 1), 3, settings, jax.random.key(0), partial, real)


def test_pseudo_examples_go_on_after_an_interruption_and_carry_outputs_of_the_reference(tmp_path):
    memory = Memory()
    whole = fskd.generate(problem(memory))
    assert len(memory.saved) == 8
    partial = synthesis.Partial(tmp_path / 'partial.npz', 'key', seconds=0)
    partial.save(memory.saved[5])
    resumed = fskd.generate(problem(partial))
    np.testing.assert_array_equal(resumed.images, whole.images)
    assert whole.images.shape == (42, 8, 8, 1)
    np.testing.assert_array_equal(whole.images[30:], problem(None).real['images'])
    np.testing.assert_array_equal(whole.labels[:30], whole.logits[:30].argmax(1))
    np.testing.assert_allclose(np.exp(whole.logits).sum(1), 1, rtol=1e-4)


def test_pseudo_examples_move_to_disagreement():
    proxy, start = fskd.Proxy(3), jax.random.uniform(jax.random.key(1), (20, 8, 8, 1))
    params = proxy.init(jax.random.key(0), start)
    reference = gaussian_process.fit(start[11:], jax.nn.one_hot(jnp.arange(9) % 3, 3))
    measure = lambda images: fskd.disagreement(reference.log_probabilities(images), proxy.apply(params, images))
    moved = fskd._make_move(proxy, problem(None))(reference, params, start, 11)
    assert (measure(moved)[:11] > measure(start)[:11]).all()
    np.testing.assert_array_equal(moved[11:], start[11:])
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1


def test_a_loss_that_becomes_nan_is_named():
    broken = problem(Memory())
    with pytest.raises(synthesis.NonFiniteSynthesis, match='became NaN or infinite in step 2;'):
        fskd.generate(broken._replace(settings={**broken.settings, 'learning_rate': float('nan')}))


def test_a_student_learns_digits_from_a_few(trained, tmp_path, one_device):
    shared = {
        'transfer.num_samples': 60,
        'batch_size': 20,
        'student.epochs': 15,
        'student.learning_rate': 3e-3,
        'teacher.checkpoint': str(trained / 'teacher'),
        'separate.enabled': False,
    }
    config = digits_config(**{**shared, 'method': 'cckd_t', 'transfer.name': 'samples'})
    with optimised():
        results = experiment.run(config, tmp_path / 'run', devices=one_device)
    assert results['student']['test_accuracy'] > 0.5
    assert results['transfer']['real_data'] == 'samples'
    assert results['transfer']['images'] == 60


def test_a_run_on_pseudo_examples_keeps_the_outputs_of_the_reference(tmp_path, one_device):
    fields = {**SMALL, 'method': 'kd', 'separate.enabled': False}
    results = experiment.run(tiny_config(**fields), tmp_path / 'run', devices=one_device)
    assert results['transfer']['images'] == 52
    with np.load(tmp_path / 'run' / 'transfer_set.npz') as stored:
        np.testing.assert_allclose(np.exp(stored['logits']).sum(1), 1, rtol=1e-4)
        assert (stored['labels'][32:] == stored['logits'][32:].argmax(1)).mean() > 0.8


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (
            {'method': 'faithful_adversarial'},
            'transfer.name=fskd teaches by outputs at its images in place of the teacher',
        ),
        ({'transfer.augment': True}, 'transfer.name=fskd teaches by outputs at its images in place of the teacher'),
        (
            {'transfer.num_samples': 9},
            'transfer.num_samples=9 must be from 10, one of each class, to 128',
        ),
        ({'transfer.num_samples': 129}, 'transfer.num_samples=129 must be from 10'),
        ({'transfer.num_samples': 0}, 'transfer.num_samples=0 must be a whole number'),
        ({'teacher.logits': 'logits.npz'}, "needs the teacher's weights, which teacher.logits does not give"),
    ],
)
def test_what_cannot_be_used_is_one_line(fields, message, tmp_path, one_device):
    config = tiny_config(**{**SMALL, 'method': 'kd', **fields})
    with pytest.raises(InputError, match=message) as raised:
        experiment.run(config, tmp_path / 'run', devices=one_device)
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / 'run' / 'teacher').exists()
