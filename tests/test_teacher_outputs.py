import numpy as np
import pytest
from helpers import softmax

from cckd_jax import data, training
from cckd_jax.errors import InputError
from cckd_jax.training import teacher_outputs
from cckd_jax.training.teacher_outputs import TeacherOutputs


def outputs(examples=4):
    return TeacherOutputs(np.ones((examples, 1, 3), np.float32), np.zeros((2, 1, 3), np.float32))


def test_saved_outputs_come_back_and_a_stale_cache_is_refused(tmp_path):
    path = tmp_path / 'teacher_outputs.npz'
    teacher_outputs.save(path, outputs(), 'abc')
    for loaded, expected in zip(teacher_outputs.load(path, 'abc'), outputs(), strict=True):
        np.testing.assert_array_equal(loaded, expected)
    with pytest.raises(InputError, match=r'computed for other teacher weights.*abc.*xyz.*delete it'):
        teacher_outputs.load(path, 'xyz')
    assert list(tmp_path.iterdir()) == [path]


def test_the_digest_sees_every_value():
    tree = {'a': np.zeros((2, 2)), 'b': [np.ones(3)]}
    assert teacher_outputs.digest(tree) == teacher_outputs.digest({'b': [np.ones(3)], 'a': np.zeros((2, 2))})
    assert teacher_outputs.digest(tree) != teacher_outputs.digest({**tree, 'a': np.eye(2)})
    assert teacher_outputs.digest(tree) != teacher_outputs.digest({'c': tree['a'], 'b': tree['b']})


def changed_arrays(path, **arrays):
    with np.load(path) as file:
        arrays = {**file, **arrays}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    'arrays',
    [
        {'logits': None},
        {'logits': np.ones((3, 1, 3), np.float32)},
        {'logits': np.full((4, 1, 3), np.nan, np.float32)},
        {'test_logits': None},
        {'digest': None},
    ],
)
def test_a_cache_with_the_right_key_and_other_logits_is_refused(tmp_path, arrays):
    path = tmp_path / 'teacher_outputs.npz'
    teacher_outputs.save(path, outputs(), 'abc')
    changed_arrays(path, **arrays)
    with pytest.raises(InputError, match=r'incomplete, or were changed after they were saved; delete it'):
        teacher_outputs.load(path, 'abc')


def test_a_torn_cache_is_refused(tmp_path):
    path = tmp_path / 'teacher_outputs.npz'
    path.write_bytes(b'PK\x03\x04 torn')
    with pytest.raises(InputError, match=r'it is damaged, .*; delete it to compute it again'):
        teacher_outputs.load(path, 'abc')


def plausible_logits(labels, accuracy=0.9):
    """Random logits whose arg-max is the label for the given share of the examples."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(len(labels), 10))
    right = random.uniform(size=len(labels)) < accuracy
    logits[right, labels[right]] += 20
    return logits


@pytest.mark.parametrize('suffix', ['npz', 'npy'])
def test_logits_of_another_framework(tmp_path, digits, suffix, capsys):
    path = tmp_path / f'logits.{suffix}'
    logits = plausible_logits(digits.train.labels)
    np.save(path, logits) if suffix == 'npy' else np.savez(path, logits=logits, test_logits=np.zeros((360, 10)))
    loaded = teacher_outputs.load_logits(path, digits)
    assert loaded.train.shape == (1437, 1, 10)
    assert loaded.train.dtype == np.float32
    assert loaded.test is None if suffix == 'npy' else loaded.test.shape == (360, 1, 10)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f'the teacher in {path} predicts 91.58% of the training labels'


def test_given_logits_follow_their_examples_when_some_are_held_out(tmp_path, digits):
    held = data.load('digits', validation_fraction=0.3)
    logits = plausible_logits(digits.train.labels).astype(np.float32)
    np.save(tmp_path / 'logits.npy', logits)
    loaded = teacher_outputs.load_logits(tmp_path / 'logits.npy', held)
    np.testing.assert_array_equal(loaded.train[:, 0], logits[held.rows])


def shuffled(logits):
    return np.random.default_rng(1).permutation(logits)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (shuffled, r'predicts 9\.74% .* would predict 10\.00%: the rows are probably in another order'),
        (lambda logits: np.roll(logits, 1, axis=1), r'9\d\.\d\d% if its classes are renumbered \(0 to 9, 1 to 0'),
        (np.zeros_like, r'100\.00% of its predictions are of one class, so its input is probably scaled'),
        (lambda logits: np.stack([logits, shuffled(logits)], axis=1), r'teacher 1 in .* predicts 9\.74%'),
        (softmax, 'are probabilities: no value is negative'),
        (lambda logits: softmax(logits).astype(np.float16), 'give the logits, or the logarithm of the probabilities'),
    ],
)
def test_logits_that_look_wrong_are_refused_unless_forced(tmp_path, digits, change, message):
    path = tmp_path / 'logits.npy'
    np.save(path, change(plausible_logits(digits.train.labels)).astype(float))
    with pytest.raises(InputError, match=f'{message}.*check_logits=false') as raised:
        teacher_outputs.load_logits(path, digits)
    assert len(str(raised.value).splitlines()) == 1
    assert len(teacher_outputs.load_logits(path, digits, check=False).train) == 1437


def test_a_poor_teacher_is_accepted(tmp_path, digits):
    np.save(tmp_path / 'logits.npy', plausible_logits(digits.train.labels, accuracy=0.2))
    teacher_outputs.load_logits(tmp_path / 'logits.npy', digits)


def test_a_logarithm_of_probabilities_is_accepted(tmp_path, digits):
    np.save(tmp_path / 'logits.npy', np.log(softmax(plausible_logits(digits.train.labels))))
    teacher_outputs.load_logits(tmp_path / 'logits.npy', digits)


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        ({'logits': np.zeros((1437, 9))}, r'shape \(1437, 9\); the data set needs \[1437, 10\]'),
        ({'logits': np.zeros((1436, 10))}, r'shape \(1436, 10\)'),
        ({'logits': np.full((1437, 10), np.nan)}, 'must be finite floats'),
        ({'logits': np.full((1437, 10), np.inf)}, 'must be finite floats'),
        ({'logits': np.full((1437, 10), 1e300)}, 'as float32, some are NaN or infinite'),
        ({'logits': np.zeros((1437, 10), int)}, 'must be finite floats'),
        (
            {'logits': np.zeros((1437, 2, 10)), 'test_logits': np.zeros((360, 10))},
            'has logits of 2 teachers and test_logits of 1',
        ),
        ({'scores': np.zeros((1437, 10))}, 'no array named logits; it has: scores'),
    ],
)
def test_bad_logits_are_refused(tmp_path, digits, arrays, message):
    path = tmp_path / 'logits.npz'
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message):
        teacher_outputs.load_logits(path, digits)


def test_files_that_are_not_arrays_are_refused(tmp_path, digits):
    with pytest.raises(InputError, match='no file of teacher logits'):
        teacher_outputs.load_logits(tmp_path / 'absent.npz', digits)
    path = tmp_path / 'torn.npz'
    path.write_bytes(b'PK\x03\x04 torn')
    with pytest.raises(InputError, match='cannot read teacher logits from'):
        teacher_outputs.load_logits(path, digits)
    path.write_text('not an array')
    with pytest.raises(InputError, match='cannot read teacher logits from'):
        teacher_outputs.load_logits(path, digits)


def test_several_teachers_lie_along_k():
    both = teacher_outputs.stack([outputs(), outputs()])
    assert both.train.shape == (4, 2, 3)
    assert both.test.shape == (2, 2, 3)
    assert teacher_outputs.stack([outputs(), outputs()._replace(test=None)]).test is None


def test_the_logits_of_a_function_are_written_and_read(tmp_path, digits):
    kernel = np.random.default_rng(0).normal(size=(784, 10))
    calls = []

    def function(images):
        calls.append(len(images))
        return images.reshape(len(images), -1) / 255 @ kernel

    training.write_logits(tmp_path / 'logits.npz', function, digits, batch_size=1000)
    assert calls == [1000, 437, 360]
    held = data.load('digits', validation_fraction=0.3)
    outputs = teacher_outputs.load_logits(tmp_path / 'logits.npz', held, check=False)
    for split, logits in zip((held.train, held.test), outputs, strict=True):
        expected = split.images.reshape(len(split), -1) / 255 @ kernel
        np.testing.assert_allclose(logits[:, 0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('name', 'function', 'examples', 'message'),
    [
        ('a.npz', lambda images: np.zeros((len(images), 9)), None, r'returns \[256, 9\] .* needs \[256, 10\]'),
        ('a.npz', lambda images: np.full((len(images), 10), np.nan), None, 'must be finite floats'),
        ('a.npz', lambda images: np.full((len(images), 10), 0.1), None, 'are probabilities.* of the probabilities$'),
        ('folder/a.npz', None, None, 'there is no folder .*folder; create it first'),
        ('a.npz', None, 100, '1337 of its 1437 examples are left out'),
        ('a.npy', None, None, r'need an \.npz file, not a\.npy; give a\.npz'),
    ],
)
def test_logits_that_no_run_could_read_are_not_written(tmp_path, name, function, examples, message):
    with pytest.raises(InputError, match=message):
        training.write_logits(tmp_path / name, function, data.load('digits', examples=examples))
    assert not any(tmp_path.iterdir())
