import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cckd_jax import data
from cckd_jax.data import prepare
from cckd_jax.errors import InputError


def prepare_tiny_mnist(folder):
    """Writes what TFDS's own builder would have written, had it been given few images."""
    version = tfds.builder_cls('mnist').VERSION
    with tfds.core.registered.skip_registration():

        class Mnist(tfds.core.GeneratorBasedBuilder):
            name = 'mnist'
            VERSION = version

            def _info(self):
                features = {
                    'image': tfds.features.Image(shape=(28, 28, 1)),
                    'label': tfds.features.ClassLabel(num_classes=10),
                }
                features = tfds.features.FeaturesDict(features)
                return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

            def _split_generators(self, dl_manager):
                return {'train': self._generate_examples(30), 'test': self._generate_examples(10)}

            def _generate_examples(self, count):
                for key in range(count):
                    image = Image.fromarray(np.full((28, 28), key, np.uint8))
                    yield key, {'image': image, 'label': key % 10}

        Mnist(data_dir=str(folder), file_format='array_record').download_and_prepare()


def test_digits_are_split_as_documented(digits):
    assert digits.train.images.shape == (1437, 28, 28, 1)
    assert digits.test.images.shape == (360, 28, 28, 1)
    assert digits.train.images.dtype == np.uint8
    assert digits.num_classes == 10
    for split in (digits.train, digits.test):
        counts = np.bincount(split.labels)
        assert counts.max() / counts.min() < 1.1
    # No test image is a training image.
    train = {image.tobytes() for image in digits.train.images}
    assert sum(image.tobytes() in train for image in digits.test.images) == 0


def test_digits_in_colour_are_the_same_digits(digits):
    colour = data.load('digits', image_shape=(32, 32, 3))
    assert colour.train.images.shape == (1437, 32, 32, 3)
    np.testing.assert_array_equal(colour.train.labels, digits.train.labels)
    np.testing.assert_array_equal(colour.train.images[..., 0], colour.train.images[..., 2])


def test_a_validation_fraction_is_held_out_of_training(digits):
    held = data.load('digits', validation_fraction=0.2, seed=3)
    assert (len(held.validation), len(held.train)) == (287, 1150)
    pixels = sorted(image.tobytes() for part in (held.validation, held.train) for image in part.images)
    assert pixels == sorted(image.tobytes() for image in digits.train.images)
    again = data.load('digits', validation_fraction=0.2, seed=4)
    assert again.validation.fingerprint() != held.validation.fingerprint()


def test_every_example_is_presented_once_an_epoch():
    layout = np.arange(10, 33)
    batches = list(data.epoch_batches(layout, batch_size=8, seed=1, epoch=2))
    assert [len(batch) for batch in batches] == [8, 8, 8]
    indices = np.concatenate(batches)
    np.testing.assert_array_equal(np.sort(indices[indices >= 0]), layout)
    assert (indices < 0).sum() == 1


def test_the_order_is_a_function_of_seed_and_epoch():
    order = lambda seed, epoch: np.concatenate(
        list(data.epoch_batches(np.arange(64), batch_size=16, seed=seed, epoch=epoch))
    ).tolist()
    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_the_order_does_not_depend_on_the_batch_size():
    orders = [
        np.concatenate(list(data.epoch_batches(np.arange(64), batch_size=size, seed=0, epoch=0))) for size in (8, 32)
    ]
    np.testing.assert_array_equal(*orders)


def test_pixels_become_units():
    np.testing.assert_allclose(data.to_unit(np.array([0, 51, 255], np.uint8)), [0.0, 0.2, 1.0], rtol=1e-6)


def test_a_prepared_copy_is_read_from_its_data_dir(tmp_path):
    prepare_tiny_mnist(tmp_path)
    mnist = data.load('mnist', data_dir=str(tmp_path))
    assert mnist.train.images.shape == (30, 28, 28, 1)
    assert mnist.test.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(mnist.test.images[3], np.full((28, 28, 1), 3))


def test_an_absent_data_set_fails_at_once_with_three_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, 'obstacle', lambda builder: 'no network')
    with pytest.raises(InputError) as caught:
        data.load('mnist', data_dir=str(tmp_path))
    message = str(caught.value)
    assert '\n' not in message
    for part in (str(tmp_path / 'mnist'), 'no network', '(1)', '--config.dataset.data_dir', 'digits'):
        assert part in message


def test_what_stands_in_the_way_is_said_without_waiting(monkeypatch):
    class Unreachable:
        url_infos = {'http://localhost:9/mnist.gz': None}  # noqa: RUF012

    monkeypatch.setattr(prepare.importlib.util, 'find_spec', lambda name: None)
    assert 'TensorFlow' in prepare.obstacle(Unreachable)
    monkeypatch.setattr(prepare.importlib.util, 'find_spec', lambda name: object())
    assert 'http://localhost:9/mnist.gz cannot be reached' in prepare.obstacle(Unreachable)


def test_bad_names_and_shapes_are_refused():
    with pytest.raises(InputError, match=r"unknown data set 'mnits' .did you mean 'mnist'"):
        data.load('mnits')
    with pytest.raises(InputError, match=r'digits come as .* not as dataset.image_shape=\(9, 9, 1\)'):
        data.load('digits', image_shape=(9, 9, 1))


def test_a_damaged_data_set_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    data.load('digits')
    (file,) = tmp_path.glob('cckd_jax/digits/28x28x1/1.0.0/*-train.array_record*')
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot read train of 'digits'"):
        data.load('digits')
