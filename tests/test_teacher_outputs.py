import numpy as np
import pytest

from cckd_jax import data
from cckd_jax.errors import InputError
from cckd_jax.training import teacher_outputs
from cckd_jax.training.teacher_outputs import TeacherOutputs


def outputs(examples=4):
    return TeacherOutputs(np.ones((examples, 1, 3), np.float32), np.zeros((2, 1, 3), np.float32))


def test_saved_outputs_come_back_and_a_stale_cache_is_refused(tmp_path):
    path = tmp_path / 'teacher_outputs.npz'
    teacher_outputs.save(path, outputs(), 'abc')
    for found, expected in zip(teacher_outputs.load(path, 'abc'), outputs(), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(InputError, match=r'computed for other teacher weights.*abc.*xyz.*delete it'):
        teacher_outputs.load(path, 'xyz')
    assert list(tmp_path.iterdir()) == [path]


def test_the_digest_sees_every_value():
    tree = {'a': np.zeros((2, 2)), 'b': [np.ones(3)]}
    assert teacher_outputs.digest(tree) == teacher_outputs.digest({'b': [np.ones(3)], 'a': np.zeros((2, 2))})
    assert teacher_outputs.digest(tree) != teacher_outputs.digest({**tree, 'a': np.eye(2)})
    assert teacher_outputs.digest(tree) != teacher_outputs.digest({'c': tree['a'], 'b': tree['b']})


@pytest.mark.parametrize('suffix', ['npz', 'npy'])
def test_logits_of_another_framework(tmp_path, digits, suffix):
    path = tmp_path / f'logits.{suffix}'
    logits = np.random.default_rng(0).normal(size=(1437, 10))
    np.save(path, logits) if suffix == 'npy' else np.savez(path, logits=logits, test_logits=np.zeros((360, 10)))
    found = teacher_outputs.load_given(path, digits)
    assert found.train.shape == (1437, 1, 10)
    assert found.train.dtype == np.float32
    assert found.test is None if suffix == 'npy' else found.test.shape == (360, 1, 10)


def test_given_logits_follow_their_examples_when_some_are_held_out(tmp_path):
    held = data.load('digits', validation_fraction=0.3)
    logits = np.random.default_rng(0).normal(size=(1437, 10)).astype(np.float32)
    np.save(tmp_path / 'logits.npy', logits)
    found = teacher_outputs.load_given(tmp_path / 'logits.npy', held)
    np.testing.assert_array_equal(found.train[:, 0], logits[held.rows])


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        ({'logits': np.zeros((1437, 9))}, r'shape \(1437, 9\); the data set needs \[1437, 10\]'),
        ({'logits': np.zeros((1436, 10))}, r'shape \(1436, 10\)'),
        ({'logits': np.full((1437, 10), np.nan)}, 'must be finite floats'),
        ({'logits': np.full((1437, 10), np.inf)}, 'must be finite floats'),
        ({'logits': np.zeros((1437, 10), int)}, 'must be finite floats'),
        (
            {'logits': np.zeros((1437, 2, 10)), 'test_logits': np.zeros((360, 10))},
            'has logits of 2 and test_logits of 1 teachers',
        ),
        ({'scores': np.zeros((1437, 10))}, 'no array named logits; it has: scores'),
    ],
)
def test_bad_logits_are_refused(tmp_path, digits, arrays, message):
    path = tmp_path / 'logits.npz'
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message):
        teacher_outputs.load_given(path, digits)


def test_files_that_are_not_arrays_are_refused(tmp_path, digits):
    with pytest.raises(InputError, match='no file of teacher logits'):
        teacher_outputs.load_given(tmp_path / 'absent.npz', digits)
    path = tmp_path / 'torn.npz'
    path.write_bytes(b'PK\x03\x04 torn')
    with pytest.raises(InputError, match='cannot be read'):
        teacher_outputs.load_given(path, digits)
    path.write_text('not an array')
    with pytest.raises(InputError, match='cannot be read'):
        teacher_outputs.load_given(path, digits)


def test_several_teachers_lie_along_k():
    both = teacher_outputs.stack([outputs(), outputs()])
    assert both.train.shape == (4, 2, 3)
    assert both.test.shape == (2, 2, 3)
    assert teacher_outputs.stack([outputs(), outputs()._replace(test=None)]).test is None
