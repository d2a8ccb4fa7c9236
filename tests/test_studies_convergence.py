"""The study of convergence: its measures, and the figure that it draws from the rows of its runs."""

import json

import jax
import numpy as np
import pytest
from helpers import softmax, tiny_config
from test_methods import inputs_of

from cckd_jax import experiment, methods
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
    teacher = softmax(inputs.teacher_logits, 20.0)
    if name == 'KD':
        np.testing.assert_allclose(measures['target_entropy'], -(teacher * np.log(teacher)).sum(-1), rtol=1e-4)
    assert ((measures['angle'] >= 0) & (measures['angle'] <= 180)).all()


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
    run = {'dataset': 'digits', 'row': 'kd', 'seed': 0}
    convergence.export(tmp_path, {'rows': [run], 'runs': [run]})
    assert (tmp_path / 'curves.png').read_bytes().startswith(b'\x89PNG')
