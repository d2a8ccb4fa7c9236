import dataclasses
import io
import shutil
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from PIL import Image

from cckd_jax import data
from cckd_jax.data import prepare, records
from cckd_jax.data.digits_builder import Digits
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
    np.testing.assert_array_equal(held.train.images, digits.train.images[held.rows])
    assert held.source_size == 1437
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


def test_a_copy_is_decoded_once_and_again_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    prepare_tiny_mnist(tmp_path)
    first = data.load('mnist', data_dir=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(records, 'read_split', lambda *a: pytest.fail('decoded a second time'))
        second = data.load('mnist', data_dir=str(tmp_path))
    for split in ('train', 'test'):
        np.testing.assert_array_equal(getattr(first, split).images, getattr(second, split).images)
        np.testing.assert_array_equal(getattr(first, split).labels, getattr(second, split).labels)
    for path in (tmp_path / 'cache').rglob('mnist-train-*.npz'):
        path.write_bytes(path.read_bytes()[:100])
    assert data.load('mnist', data_dir=str(tmp_path)).train.fingerprint() == first.train.fingerprint()
    reads = []
    read = records.read_split
    monkeypatch.setattr(records, 'read_split', lambda *a: reads.append(a[1]) or read(*a))
    next(tmp_path.rglob('*.array_record*')).touch()
    data.load('mnist', data_dir=str(tmp_path))
    assert reads == ['train', 'test']


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


def test_a_copy_in_another_format_is_one_line(tmp_path):
    prepare_tiny_mnist(tmp_path)
    info = tmp_path / 'mnist' / '3.0.1' / 'dataset_info.json'
    info.write_text(info.read_text().replace('array_record', 'tfrecord'))
    with pytest.raises(InputError, match='prepared in another format than ArrayRecord; prepare it in another folder'):
        data.load('mnist', data_dir=str(tmp_path))


def test_digits_prepared_by_two_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    prepare_digits = Digits.download_and_prepare

    def beaten(self):
        prepare_digits(self)
        raise FileExistsError('another process was faster')

    monkeypatch.setattr(Digits, 'download_and_prepare', beaten)
    assert len(data.load('digits').train) == 1437


@pytest.mark.parametrize('error', [OSError('no space left'), RuntimeError('the writer failed')])
def test_digits_load_without_a_cache(tmp_path, monkeypatch, digits, error):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))

    def full(self):
        raise error

    monkeypatch.setattr(Digits, 'download_and_prepare', full)
    without = data.load('digits')
    for split in ('train', 'test'):
        assert getattr(without, split).fingerprint() == getattr(digits, split).fingerprint()


@pytest.mark.parametrize('damage', [lambda path: path.write_text(''), lambda path: path.write_bytes(b'{"\xff')])
@pytest.mark.parametrize('file', ['dataset_info.json', '*-train.array_record*'])
def test_damaged_digits_in_the_cache_are_made_again(tmp_path, monkeypatch, digits, file, damage):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    data.load('digits')
    shutil.rmtree(tmp_path / 'cckd_jax' / 'decoded')
    (path,) = tmp_path.glob(f'cckd_jax/digits/28x28x1/1.0.0/{file}')
    damage(path)
    assert data.load('digits').train.fingerprint() == digits.train.fingerprint()
    monkeypatch.setattr(Digits, 'download_and_prepare', lambda self: pytest.fail('prepared a second time'))
    data.load('digits')


def test_a_damaged_data_set_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    prepare_tiny_mnist(tmp_path)
    (file,) = tmp_path.glob('mnist/*/*-train.array_record*')
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot read train of 'mnist'"):
        data.load('mnist', data_dir=str(tmp_path))


@pytest.mark.parametrize(
    'change',
    [
        lambda images, labels: (images[:, :20, :20], labels),
        lambda images, labels: (images.astype(np.float32), labels),
        lambda images, labels: (images, labels + 100),
        lambda images, labels: (images, labels - 1),
        lambda images, labels: (images[:-1], labels[:-1]),
        lambda images, labels: (images, labels.astype(np.int64)),
        lambda images, labels: (images.astype(object), labels),
    ],
    ids=['size', 'float', 'large labels', 'negative labels', 'fewer', 'wide labels', 'objects'],
)
def test_arrays_in_the_cache_that_are_not_the_data_set_are_replaced(tmp_path, monkeypatch, change):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    prepare_tiny_mnist(tmp_path)
    first = data.load('mnist', data_dir=str(tmp_path)).train
    (path,) = (tmp_path / 'cache').rglob('mnist-train-*.npz')
    (images, labels) = change(first.images, first.labels)
    np.savez(path, images=images, labels=labels)
    for _ in range(2):
        assert data.load('mnist', data_dir=str(tmp_path)).train.fingerprint() == first.fingerprint()
        monkeypatch.setattr(records, 'read_split', lambda *a: pytest.fail('decoded a second time'))


def test_a_split_is_a_value_of_two_arrays():
    split = data.Split(np.zeros((3, 2, 2, 1), np.uint8), np.arange(3, dtype=np.int32))
    assert len(split) == 3
    shifted = dataclasses.replace(split, labels=split.labels + 1)
    assert shifted.take(np.array([2])).labels.tolist() == [3]
    assert shifted.fingerprint() != split.fingerprint()


def write_npz(path, **changes):
    random = np.random.default_rng(0)
    arrays = {
        'x_train': random.integers(0, 256, (20, 9, 8, 3)).astype(np.uint8),
        'y_train': np.arange(20) % 4,
        'x_test': random.integers(0, 256, (6, 9, 8, 3)).astype(np.uint8),
        'y_test': np.arange(6) % 4,
        **changes,
    }
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


def test_a_data_set_of_ones_own(tmp_path):
    arrays = write_npz(tmp_path / 'own.npz')
    own = data.load(str(tmp_path / 'own.npz'))
    assert (own.name, own.num_classes, own.image_shape) == ('own', 4, (9, 8, 3))
    np.testing.assert_array_equal(own.train.images, arrays['x_train'])
    np.testing.assert_array_equal(own.test.labels, arrays['y_test'])


def test_gray_images_columns_of_labels_and_unit_floats(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 9, 8)).astype(np.uint8)
    write_npz(
        tmp_path / 'own.npz', x_train=images / 255.0, x_test=images[:6] / 255.0, y_train=(np.arange(20) % 4)[:, None]
    )
    own = data.load(str(tmp_path / 'own.npz'))
    np.testing.assert_array_equal(own.train.images, images[..., None])
    assert own.train.labels.shape == (20,)


def test_labels_that_skip_a_class_are_reported(tmp_path, capsys):
    write_npz(tmp_path / 'own.npz', y_train=np.array([0, 2, 3, 5] * 5))
    assert data.load(str(tmp_path / 'own.npz')).num_classes == 6
    assert 'own.npz skips 2 of the classes 0 to 5: 1, 4' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'y_test': None}, 'has no y_test; it has: x_train'),
        ({'y_train': np.zeros(19, int)}, 'has 20 images x_train and 19 labels y_train'),
        ({'x_test': np.zeros((6, 9, 9, 3), np.uint8)}, r'images of \(9, 8, 3\), x_test of \(9, 9, 3\)'),
        ({'x_test': np.zeros((6, 9), np.uint8)}, r'must be \[N, H, W\] or \[N, H, W, C\]'),
        ({'x_train': np.full((20, 9, 8, 3), np.nan)}, 'NaN or infinity'),
        ({'x_train': np.full((20, 9, 8, 3), 7.0)}, r'values outside \[0, 1\]'),
        ({'x_train': np.zeros((20, 9, 8, 3), np.int64)}, 'must be uint8'),
        ({'y_train': np.zeros(20)}, 'must be ints'),
        ({'y_train': np.full(20, -1)}, 'has the label -1'),
        ({'y_train': np.full(20, 2**32 + 1)}, 'y_train of .* has the label 4294967297; class indices must be below'),
        ({'y_test': np.full(6, 2**31)}, 'y_test of .* has the label 2147483648'),
        ({'y_train': np.full(20, 10**9)}, 'has the label 1000000000'),
        (
            {'y_train': np.arange(20) % 3 + 1, 'y_test': np.full(6, 1)},
            'begin at 1, .* subtract 1 from y_train',
        ),
        ({'y_train': np.zeros(0, int)}, 'y_train of .* has no labels'),
        ({'x_train': np.zeros((20, 3, 9, 8), np.uint8)}, r'looks like \[N, C, H, W\]; .* x_train.transpose'),
        ({'x_train': np.zeros((0, 9, 8, 3))}, 'x_train of .* has no images'),
        ({'x_test': np.full((6, 9, 8, 3), None)}, 'it holds Python objects; save plain arrays'),
        ({'y_train': np.zeros(20, int), 'y_test': np.zeros(6, int)}, 'has only one class'),
    ],
)
def test_bad_data_sets_of_ones_own_are_refused(tmp_path, changes, said):
    write_npz(tmp_path / 'own.npz', **changes)
    with pytest.raises(InputError, match=said):
        data.load(str(tmp_path / 'own.npz'))


def test_files_that_are_no_data_set_are_refused(tmp_path):
    with pytest.raises(InputError, match='no data set at'):
        data.load(str(tmp_path / 'absent.npz'))
    (tmp_path / 'text.npz').write_text('text')
    with pytest.raises(InputError, match=r'cannot read .*text\.npz as \.npz'):
        data.load(str(tmp_path / 'text.npz'))


def _with_compression_method(content):
    content = bytearray(content)
    for signature, offset in ((b'PK\x03\x04', 8), (b'PK\x01\x02', 10)):
        start = content.find(signature)
        while start >= 0:
            content[start + offset] = 97  # WavPack, which Python cannot read
            start = content.find(signature, start + 1)
    return content


def _encrypted(content):
    content = bytearray(content)
    for signature, offset in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + offset] |= 1
            start = content.find(signature, start + 1)
    return content


def _damaged(content):
    content = bytearray(content)
    content[100:140] = b'\xff' * 40
    return content


@pytest.mark.parametrize('damage', [_with_compression_method, _encrypted, _damaged])
def test_unreadable_archives_are_one_line(tmp_path, damage):
    path = tmp_path / 'own.npz'
    arrays = write_npz(path)
    np.savez_compressed(path, **arrays)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r'cannot read .*own\.npz as \.npz') as caught:
        data.load(str(path))
    assert '\n' not in str(caught.value)


def test_a_header_that_claims_terabytes_is_one_line(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {'descr': '|u1', 'fortran_order': False, 'shape': (10**11, 28, 28, 1)})
    with zipfile.ZipFile(tmp_path / 'own.npz', 'w') as archive:
        archive.writestr('x_train.npy', header.getvalue())
    with pytest.raises(InputError, match=r'cannot read .*own\.npz as \.npz'):
        data.load(str(tmp_path / 'own.npz'))


def test_further_arrays_and_names_of_any_script_do_no_harm(tmp_path):
    write_npz(tmp_path / 'données.NPZ', **{'größe': np.zeros(3), 'objects': np.full(2, None)})
    (tmp_path / 'données.NPZ.npz').rename(tmp_path / 'données.NPZ')
    assert data.load(str(tmp_path / 'données.NPZ')).num_classes == 4


def test_classes_have_names(tmp_path, digits):
    assert digits.class_names == tuple('0123456789')
    write_npz(tmp_path / 'own.npz')
    assert data.load(str(tmp_path / 'own.npz')).class_names == ('0', '1', '2', '3')
    write_npz(tmp_path / 'own.npz', class_names=['ant', 'bee', 'cat', 'dog', 'eel'])
    named = data.load(str(tmp_path / 'own.npz'))
    assert named.class_names == ('ant', 'bee', 'cat', 'dog', 'eel')
    assert named.num_classes == 5


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['ant', 'bee'], 'has 2 names, and the labels have 4 classes'),
        ([0, 1, 2, 3], r'must be strings \[C\], not int64 \(4,\)'),
        (['ant', 'ant', 'bee', 'cat'], 'has a name twice'),
    ],
)
def test_wrong_class_names_are_refused(tmp_path, names, message):
    write_npz(tmp_path / 'own.npz', class_names=names)
    with pytest.raises(InputError, match=message):
        data.load(str(tmp_path / 'own.npz'))


def test_paths_that_are_no_npz_are_refused(tmp_path):
    for name, message in (
        (str(tmp_path), 'has no folders of classes; a data set is a folder with train/CLASS'),
        (str(tmp_path / 'images.h5'), 'cannot be used: there is no such folder, and TFDS has no such name; give'),
        ('~nosuchuser/own.npz', '~nosuchuser is not the home folder of any user'),
        ('rgb.npy', 'TFDS has no such name'),
    ):
        with pytest.raises(InputError, match=message) as caught:
            data.load(name)
        assert '\n' not in str(caught.value)


def test_svhn_through_tfdss_own_builder(tmp_path, monkeypatch):
    """TFDS's code reads the published files' format; the TensorFlow that it opens and encodes with is stood in for."""
    from types import SimpleNamespace

    from tensorflow_datasets.core.features import image_feature

    builder = prepare.open_builder('svhn_cropped', str(tmp_path))
    random = np.random.default_rng(0)
    written = {}
    for part, count in (('train', 25), ('test', 12), ('extra', 3)):
        images = random.integers(0, 256, (32, 32, 3, count)).astype(np.uint8)
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]  # 1..10, and 10 means the digit 0
        written[part] = {
            image.tobytes(): label % 10 for image, (label,) in zip(np.moveaxis(images, -1, 0), labels, strict=True)
        }
        scipy.io.savemat(tmp_path / f'{part}_32x32.mat', {'X': images, 'y': labels})
    download = lambda self, urls: {name: tmp_path / url.rsplit('/', 1)[1] for name, url in urls.items()}
    monkeypatch.setattr(tfds.download.DownloadManager, 'download', download)
    tensorflow = SimpleNamespace(io=SimpleNamespace(gfile=SimpleNamespace(GFile=open)))
    monkeypatch.setattr(sys.modules[type(builder).__module__], 'tf', tensorflow)
    encode = lambda self, image: self._encode_pil_image(Image.fromarray(image))
    monkeypatch.setattr(image_feature._ImageEncoder, '_encode_image', encode)
    builder.download_and_prepare()

    svhn = data.load('svhn_cropped', data_dir=str(tmp_path))
    assert (len(svhn.train), len(svhn.test), svhn.num_classes) == (25, 12, 10)
    for part, split in (('train', svhn.train), ('test', svhn.test)):
        assert {image.tobytes(): label for image, label in zip(split.images, split.labels, strict=True)} == written[
            part
        ]


def test_cifar100_through_tfdss_own_builder(tmp_path, monkeypatch):
    """As above: a record is a coarse label, the label, and the pixels by channel."""
    from types import SimpleNamespace

    from tensorflow_datasets.core.features import image_feature

    builder = prepare.open_builder('cifar100', str(tmp_path))
    random = np.random.default_rng(0)
    folder = tmp_path / 'cifar-100-binary'
    folder.mkdir()
    for kind, count in (('coarse', 20), ('fine', 100)):
        (folder / f'{kind}_label_names.txt').write_text(''.join(f'{kind} {place}\n' for place in range(count)))
    written = {}
    for part, count in (('train', 120), ('test', 30)):
        images = random.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
        records = [
            bytes([label % 20, label % 100]) + np.moveaxis(image, -1, 0).tobytes() for label, image in enumerate(images)
        ]
        (folder / f'{part}.bin').write_bytes(b''.join(records))
        written[part] = {image.tobytes(): label % 100 for label, image in enumerate(images)}
    monkeypatch.setattr(tfds.download.DownloadManager, 'download_and_extract', lambda self, url: str(tmp_path))
    tensorflow = SimpleNamespace(io=SimpleNamespace(gfile=SimpleNamespace(GFile=open)))
    monkeypatch.setattr(sys.modules[type(builder).__module__], 'tf', tensorflow)
    encode = lambda self, image: self._encode_pil_image(Image.fromarray(image))
    monkeypatch.setattr(image_feature._ImageEncoder, '_encode_image', encode)
    builder.download_and_prepare()

    cifar = data.load('cifar100', data_dir=str(tmp_path))
    assert (len(cifar.train), len(cifar.test), cifar.num_classes, cifar.image_shape) == (120, 30, 100, (32, 32, 3))
    for part, split in (('train', cifar.train), ('test', cifar.test)):
        assert {image.tobytes(): label for image, label in zip(split.images, split.labels, strict=True)} == written[
            part
        ]


def keys(count, seed=0):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(count))


def test_a_flip_mirrors_about_half():
    images = jax.random.uniform(jax.random.key(1), (200, 4, 6, 2))
    moved = data.augmentation(flip=True)(keys(200), images)
    mirrored = (moved == images[:, :, ::-1]).all((1, 2, 3))
    same = (moved == images).all((1, 2, 3))
    assert (mirrored | same).all()
    assert 60 < mirrored.sum() < 140


def test_a_crop_is_a_window_of_the_padded_image_and_every_window_comes():
    image = jnp.arange(1.0, 17.0).reshape(4, 4, 1)
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    windows = {padded[row : row + 4, column : column + 4].tobytes() for row in range(3) for column in range(3)}
    moved = data.augmentation(crop=1)(keys(200), jnp.broadcast_to(image, (200, 4, 4, 1)))
    assert {each.tobytes() for each in np.asarray(moved)} == windows


def test_a_crop_beyond_the_image_is_refused():
    with pytest.raises(InputError, match=r'augmentation.crop=5 must be in \[0, 4\] for images of 4x6'):
        data.augmentation(crop=5, image_shape=(4, 6, 1))
    with pytest.raises(InputError, match=r'augmentation.crop=5 must be in \[0, 4\] for images of 4x6'):
        data.augmentation(crop=5)(keys(2), jnp.zeros((2, 4, 6, 1)))
    with pytest.raises(InputError, match=r'augmentation.crop=-1 must be 0 or above'):
        data.augmentation(crop=-1)


def test_augmentation_belongs_to_the_example_and_not_to_its_place():
    images = jax.random.uniform(jax.random.key(1), (6, 8, 8, 1))
    augment, order = data.augmentation(crop=2, flip=True), np.array([3, 1, 5, 0, 2, 4])
    moved = augment(keys(6), images)
    np.testing.assert_array_equal(augment(keys(6)[order], images[order]), moved[order])
    assert not np.array_equal(augment(keys(6, seed=1), images), moved)


def test_shuffled_labels_keep_their_number_and_those_not_chosen():
    labels = np.random.default_rng(0).integers(0, 10, 5000).astype(np.int32)
    np.testing.assert_array_equal(data.shuffled_labels(labels, 0.0, seed=1), labels)
    for rate in (0.3, 1.0):
        noisy = data.shuffled_labels(labels, rate, seed=1)
        assert noisy.dtype == labels.dtype
        np.testing.assert_array_equal(np.bincount(noisy), np.bincount(labels))
        assert np.mean(noisy != labels) == pytest.approx(rate * 0.9, abs=0.02)
        np.testing.assert_array_equal(noisy, data.shuffled_labels(labels, rate, seed=1))
        assert not np.array_equal(noisy, data.shuffled_labels(labels, rate, seed=2))
    # Those chosen stand nowhere together in the order of an epoch.
    wrong = data.shuffled_labels(labels, 0.3, seed=1) != labels
    for epoch in range(5):
        (order,) = data.epoch_batches(np.arange(5000), batch_size=5000, seed=1, epoch=epoch)
        assert wrong[order[:1500]].mean() == pytest.approx(0.27, abs=0.05)
