"""Significance as weights, the rows that use it, and the gate that counts it."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Bench, assert_trees_close, digits_config, method_named
from hypothesis import given, settings, strategies as st

from cckd_jax import selection, training
from cckd_jax.errors import InputError
from cckd_jax.experiment import resolve_method, teachers
from cckd_jax.methods import BY_SIGNIFICANCE, METHODS, SELF_REGULATED, Weighting

ALL = np.arange(32)


def test_weights_by_hand():
    counts = np.array([0, 1, 2, 5])
    weigh = lambda normalization: selection.significance(counts, epochs=10, normalization=normalization)
    np.testing.assert_allclose(weigh('epochs'), [0, 0.1, 0.2, 0.5])
    np.testing.assert_allclose(weigh('max'), [0, 0.2, 0.4, 1])
    np.testing.assert_allclose(weigh('mean_one'), [0, 0.5, 1, 2.5])
    assert weigh('epochs').dtype == np.float32
    np.testing.assert_array_equal(selection.significance(counts, epochs=10), weigh('epochs'))


@given(seed=st.integers(0, 10**6), size=st.integers(1, 50), epochs=st.integers(1, 300))
@settings(max_examples=25, deadline=None)
def test_weights_in_general(seed, size, epochs):
    counts = np.random.default_rng(seed).integers(0, epochs + 1, size)
    counts[0] = epochs
    for name in selection.NORMALIZATIONS:
        weights = selection.significance(counts, epochs=epochs, normalization=name)
        np.testing.assert_array_equal(weights == 0, counts == 0)
        assert (np.diff(weights[np.argsort(counts)]) >= 0).all()
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-5)  # mean_one, the last
    assert selection.significance(counts, epochs=epochs, normalization='max').max() == 1


@pytest.mark.parametrize(
    ('counts', 'fields', 'message'),
    [
        ([0, 0, 0], {}, 'all 3 counts of significance are zero'),
        ([0, 11], {}, 'must be from 0 to the 10 epochs that were counted; they are from 0 to 11'),
        ([-1, 1], {}, 'they are from -1 to 1'),
        ([0.5, 1.0], {}, r'must be ints \[N\], not float64 \[2\]'),
        ([[1, 2]], {}, r'must be ints \[N\], not int64 \[1, 2\]'),
        ([1], {'normalization': 'epoch'}, r"unknown normalization of significance 'epoch' .did you mean 'epochs'"),
    ],
)
def test_counts_that_cannot_be_weights(counts, fields, message):
    with pytest.raises(InputError, match=message) as raised:
        selection.significance(np.array(counts), epochs=10, **fields)
    assert len(str(raised.value).splitlines()) == 1


def test_an_epoch_holds_the_examples_above_zero():
    aux = {'significance': np.array([0, 0.5, 0, 1], np.float32)}
    labels = np.zeros(4, np.int32)
    for name in ('significance', 'hybrid'):
        assert METHODS[name].epoch_subset(labels, aux).tolist() == [1, 3]
    assert METHODS['regulated'].epoch_subset(labels, aux).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize('devices', [1, 4])
def test_a_step_weighs_each_loss_and_divides_by_the_kept(devices):
    significance = np.random.default_rng(3).uniform(size=32).astype(np.float32)
    by_hand = lambda batch: jnp.take(significance, batch.index, mode='clip')
    seen = {}
    for name, method in (
        ('row', METHODS['significance']),
        ('by hand', method_named('kd', weighting=Weighting(by_hand))),
    ):
        bench = Bench(method, devices=devices)
        aux = {**bench.train_data.aux, 'significance': training.replicate(significance, bench.devices)}
        bench.train_data = bench.train_data.replace(aux=aux)
        seen[name] = bench.run([ALL, np.r_[ALL[:24], [-1] * 8]])[0]
    assert_trees_close(seen['row'].params, seen['by hand'].params, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('make', [training.make_compact_step, training.make_compact_step_on_device])
def test_the_packed_keep_their_significance(make):
    method = method_named('hybrid', lambda inputs: inputs.batch.index % 5 == 3)
    significance = np.random.default_rng(3).uniform(size=128).astype(np.float32)
    seen = []
    for how in (make, training.make_step):
        bench = Bench(method, devices=2, count=128, make=how)
        aux = {**bench.train_data.aux, 'significance': training.replicate(significance, bench.devices)}
        bench.train_data = bench.train_data.replace(aux=aux)
        seen.append(bench.run([np.arange(128), np.r_[40:104, [-1] * 64]]))
    ((packed, counted), (masked, expected)) = seen
    assert_trees_close(packed.params, masked.params, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(packed.participation, masked.participation)
    assert [each['kept'] for each in counted] == [each['kept'] for each in expected]
    assert packed.participation.sum() == np.sum(np.arange(128) % 5 == 3) + np.sum(np.arange(40, 104) % 5 == 3)


def test_equal_significance_is_a_smaller_step():
    bench = Bench(METHODS['significance'], devices=2)
    quarter = training.replicate(np.full(32, 0.25, np.float32), bench.devices)
    bench.train_data = bench.train_data.replace(aux={**bench.train_data.aux, 'significance': quarter})
    (weighted, _) = bench.run([ALL])
    (plain, _) = Bench(method_named('kd'), devices=2, optimizer=optax.sgd(0.1 / 4)).run([ALL])
    assert_trees_close(weighted.params, plain.params, rtol=1e-4, atol=1e-6)


def test_hybrid_is_significance_with_the_gate_of_regulated():
    (significance, regulated, hybrid) = (METHODS[name] for name in ('significance', 'regulated', 'hybrid'))
    assert hybrid.weighting is significance.weighting is BY_SIGNIFICANCE
    assert hybrid.gate is regulated.gate is METHODS['cckd_t_reg'].gate is SELF_REGULATED
    assert significance.gate is None
    assert hybrid.gate_hyperparameters == {'alpha': 0.01, 'temperature': 20.0, 'margin_temperature': 1.0}
    margin = {'margin_temperature': 5.0}
    assert resolve_method(digits_config(method='hybrid', **margin)).gate_hyperparameters.items() >= margin.items()
    assert resolve_method(digits_config(method='hybrid', self_regulate=False)).gate is None


def test_a_teacher_learns_from_labels_with_a_gate_of_its_own():
    plain = teachers.resolve_method(digits_config().teacher)
    assert plain.gate is None
    students = {'alpha': 0.5, 'temperature': 4.0, 'margin_temperature': 2.0, 'recheck': True}
    config = digits_config(**students, **{'teacher.self_regulate': True, 'teacher.learning_rate': 0.003})
    teacher = teachers.resolve_method(config.teacher)
    assert teacher.gate_hyperparameters == {'alpha': 0.01, 'temperature': 20.0, 'margin_temperature': 1.0}
    assert not teacher.skips_samples
    assert teacher.loss == METHODS['separate'].loss
    assert teacher.learning_rate == 0.003
    with config.unlocked():
        config.teacher.update({'alpha': 0.2, 'margin_temperature': 4.0})
    assert teachers.resolve_method(config.teacher).gate_hyperparameters == {
        'alpha': 0.2,
        'temperature': 20.0,
        'margin_temperature': 4.0,
    }


@pytest.mark.parametrize('devices', [2, 8])
def test_a_teachers_counts_do_not_depend_on_the_device_count(devices):
    gate = {'teacher.self_regulate': True, 'teacher.alpha': 1e-4}
    config = digits_config(**gate)
    order = np.random.default_rng(0).permutation(ALL)
    (counts, kept) = zip(
        *(
            (state.participation, [each['kept'] for each in metrics])
            for state, metrics in (
                Bench(teachers.resolve_method(config.teacher), devices=n).run(
                    [order, np.r_[order[:20], [-1] * 12]] * 3, epoch=100
                )
                for n in (1, devices)
            )
        ),
        strict=True,
    )
    np.testing.assert_array_equal(counts[0], counts[1])
    assert kept[0] == kept[1]
    assert 0 < counts[0].sum() == sum(kept[0]) < 3 * 52
