"""The study of convergence: its measures, and the figure that it draws from the rows of its runs."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import softmax, tiny_config
from test_methods import inputs_of

from cckd_jax import experiment, losses, methods
from cckd_jax.methods.validation import validate
from cckd_jax.report.metrics import read_rows
from cckd_jax.studies import convergence


@pytest.mark.parametrize('name', convergence.METHODS.values())
def test_the_terms_add_up_to_the_gradient_of_the_loss(name):
    method = methods.get(f'cckd_jax.studies.convergence:{name}')
    validate(method)
    inputs = inputs_of(method)
    loss = lambda logits: method.loss(inputs._replace(outputs=inputs.outputs._replace(logits=logits))).sum()
    gradient = jax.grad(loss)(inputs.logits)
    measures = method.measures(inputs)
    np.testing.assert_allclose(measures['gradient_norm'], np.linalg.norm(gradient, axis=-1), rtol=1e-3, atol=1e-5)
    target = softmax(inputs.teacher_logits, 20.0)
    if name != 'KD':
        confidence_temperature = {'CCKD_T': 20.0, 'CCKD_T_1': 1.0}[name]
        target = np.asarray(
            losses.confidence_targets(
                inputs.teacher_logits, inputs.labels, confidence_temperature=confidence_temperature
            )
        )
    np.testing.assert_allclose(measures['target_entropy'], -(target * np.log(target)).sum(-1), rtol=1e-4)


@pytest.mark.parametrize(
    ('label_term', 'angle', 'norm'),
    [([-1.0, 0.0, 1.0], 180.0, 0.0), ([2.0, 0.0, -2.0], 0.0, 18**0.5), ([1.0, -2.0, 1.0], 90.0, 8**0.5)],
)
def test_measures_by_hand(label_term, angle, norm):
    inputs = SimpleNamespace(logits=jnp.array([[0.0, 3.0, 1.0]]), labels=jnp.array([1]))
    measures = convergence.target_measures(
        inputs,
        target=jnp.array([[0.0, 0.5, 0.5]]),
        teacher_term=jnp.array([[1.0, 0.0, -1.0]]),
        label_term=jnp.array([label_term]),
    )
    expected = {'target_entropy': np.log(2), 'gradient_norm': norm, 'angle': angle, 'logit_gap': 2.5}
    assert measures.keys() == expected.keys()
    for name, value in expected.items():
        # Near 0 and 180 degrees the arc cosine of float32 is exact to 0.03 degrees.
        np.testing.assert_allclose(measures[name], [value], rtol=1e-5, atol=0.05 if name == 'angle' else 1e-6)


def test_a_run_records_the_measures_and_the_study_draws_them(tmp_path, one_device):
    options = convergence.STUDY.resolve({'digits': tiny_config(**{'student.epochs': 2})}, tmp_path, seeds=1)
    jobs = list(convergence.STUDY.jobs(options))
    assert [job.row for job in jobs] == ['kd', 'cckd_t', 'cckd_t_c1']
    assert jobs[2].needs == (jobs[0].name,)
    assert jobs[1].config.teacher.checkpoint == str(tmp_path / jobs[0].name / 'teacher')
    experiment.run(jobs[0].config, tmp_path / jobs[0].name, devices=one_device)
    rows = read_rows(tmp_path / jobs[0].name / 'student')
    assert all(0 < row['target_entropy'] < np.log(10) and row['gradient_norm'] > 0 for row in rows)
    results = json.loads((tmp_path / jobs[0].name / 'results.json').read_text())
    (row,) = convergence.measures(jobs[0], results).values()
    assert row['generalization_gap'] == results['student']['train_accuracy'] - row['test_accuracy']
    run = {'dataset': 'digits', 'row': 'kd', 'seed': 0, 'run': jobs[0].name}
    convergence.export(tmp_path, {'rows': [run], 'runs': [run]})
    assert (tmp_path / 'curves.png').read_bytes().startswith(b'\x89PNG')
