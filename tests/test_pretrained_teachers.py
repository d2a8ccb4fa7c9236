"""Logits that a run reads from a file of the user's, and the cache that it keeps of its teachers' logits."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import digits_config
from ml_collections import ConfigDict

from cckd_jax.errors import InputError
from cckd_jax.experiment import teachers
from cckd_jax.report.stages import Stages
from cckd_jax.training.teacher_outputs import TeacherOutputs


def run_on(dataset, workdir, *teacher_configs):
    facts = {'config': digits_config(), 'teachers': teacher_configs, 'workdir': workdir, 'dataset': dataset}
    return SimpleNamespace(**facts, stages=Stages())


@pytest.mark.parametrize('name', ['digits', 'données.npz', '数字'])
def test_outputs_are_cached_for_a_data_set_of_any_name(tmp_path, digits, name):
    run = run_on(SimpleNamespace(name=name, train=digits.train, test=digits.test), tmp_path)
    outputs = TeacherOutputs(np.ones((4, 1, 3), np.float32), None)
    calls = []
    for _ in range(2):
        cached = teachers._cached_in_workdir(run, ['weights'], lambda: calls.append(1) or outputs)
        np.testing.assert_array_equal(cached.train, outputs.train)
    assert len(calls) == 1


def test_a_teacher_may_be_given_as_it_is(tmp_path, digits):
    path = tmp_path / 'logits.npy'
    np.save(path, np.zeros((1437, 10)))
    teacher_config = ConfigDict({'logits': str(path), 'checkpoint': None, 'check_logits': True})
    with pytest.raises(InputError, match='check_logits=false'):
        teachers.load_pretrained(run_on(digits, tmp_path, teacher_config))
    teacher_config.check_logits = False
    (outputs,) = teachers.load_pretrained(run_on(digits, tmp_path, teacher_config))
    assert outputs.train.shape == (1437, 1, 10)
