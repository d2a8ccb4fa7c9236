"""Folders of images as data sets."""

import errno

import numpy as np
import pytest
from PIL import Image

from cckd_jax import data
from cckd_jax.data import folders
from cckd_jax.errors import InputError

SHAPE = (6, 5, 3)
CLASSES = ('Bär', 'cat & dog')


def write_images(folder, classes=CLASSES, count=10, size=(5, 6)):
    """Images of one colour each, which tells class and index."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new('RGB', size, (label, index, 7)).save(folder / name / f'bild {index:03} ü.png')
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def indices(split):
    """(class, index) of every image."""
    return [tuple(int(value) for value in image[0, 0, :2]) for image in split.images]


def test_a_folder_of_classes_is_split_by_class(tmp_path, cache):
    folder = write_images(tmp_path / 'pets')
    pets = data.load(str(folder), image_shape=SHAPE, test_fraction=0.3)
    assert (pets.name, pets.class_names, pets.num_classes, pets.image_shape) == ('pets', CLASSES, 2, SHAPE)
    for split, count in ((pets.train, 7), (pets.test, 3)):
        assert np.bincount(split.labels).tolist() == [count, count]
        assert [label for label, _ in indices(split)] == split.labels.tolist()
    assert sorted(indices(pets.train) + indices(pets.test)) == [(label, row) for label in (0, 1) for row in range(10)]


def test_the_split_depends_on_its_own_seed_and_not_on_that_of_the_run(tmp_path, cache):
    folder = write_images(tmp_path / 'pets')
    load = lambda **options: data.load(str(folder), image_shape=SHAPE, **options)
    first = load()
    assert indices(load(seed=5).test) == indices(first.test)
    assert sorted(indices(load(split_seed=1).test)) != sorted(indices(first.test))
    assert set(first.train.labels[:8]) == {0, 1}  # the first examples are a sample of all classes
    moved = folder.rename(tmp_path / 'moved')
    write_images(moved, ['zebra'])
    test = data.load(str(moved), image_shape=SHAPE).test
    chosen = {pair for pair, label in zip(indices(test), test.labels, strict=True) if label < 2}
    assert chosen == set(indices(first.test))


def test_the_smallest_class_keeps_an_image_of_each_kind(tmp_path, cache):
    folder = write_images(tmp_path / 'pets', count=2)
    for fraction in (0.01, 0.99):
        pets = data.load(str(folder), image_shape=SHAPE, test_fraction=fraction)
        assert np.bincount(pets.train.labels).tolist() == np.bincount(pets.test.labels).tolist() == [1, 1]


def test_splits_of_the_user_are_kept(tmp_path, cache):
    write_images(tmp_path / 'pets' / 'train')
    write_images(tmp_path / 'pets' / 'test', count=3)
    pets = data.load(str(tmp_path / 'pets'), image_shape=SHAPE, test_fraction=0.5)
    assert (len(pets.train), len(pets.test)) == (20, 6)
    assert sorted(indices(pets.test)) == [(label, row) for label in (0, 1) for row in range(3)]


@pytest.mark.parametrize('name', ['train', 'test'])
def test_train_or_test_without_folders_is_a_class(tmp_path, cache, name):
    folder = write_images(tmp_path / 'vehicles', ('bus', name))
    (folder / name / '.ipynb_checkpoints').mkdir()
    vehicles = data.load(str(folder), image_shape=SHAPE)
    assert set(vehicles.class_names) == {'bus', name}
    write_images(tmp_path / 'unlabelled', ('train', 'test'))
    with pytest.raises(InputError, match='train has no folders of classes'):
        data.load(str(tmp_path / 'unlabelled'), image_shape=SHAPE)


def test_hidden_folders_have_no_examples(tmp_path, cache):
    folder = write_images(tmp_path / '.pets')
    write_images(folder / 'Bär', ['.ipynb_checkpoints'], count=3)
    (folder / 'Bär' / '.thumb.png').write_bytes(b'')
    pets = data.load(str(folder), image_shape=SHAPE)
    assert len(pets.train) + len(pets.test) == 20


def test_images_of_any_kind_get_the_shape(tmp_path, cache):
    folder = write_images(tmp_path / 'pets', size=(50, 30))
    (frame, other) = (Image.new('L', (9, 8), grey) for grey in (10, 200))
    frame.save(folder / 'Bär' / 'animated.GIF', save_all=True, append_images=[other])
    Image.fromarray(np.full((8, 9), 257 * 10, np.uint16)).save(folder / 'Bär' / 'sixteen.png')
    Image.new('RGB', (9, 8), (10, 10, 10)).quantize(2).save(folder / 'Bär' / 'palette.png')
    nested = folder / 'Bär' / 'more'
    nested.mkdir()
    Image.new('L', (9, 8), 10).save(nested / 'nested.jpg', quality=100)
    pets = data.load(str(folder), image_shape=SHAPE)
    images = [image for split in (pets.train, pets.test) for image in split.images if image[0, 0, 2] == 10]
    assert len(images) == 4
    assert all((image == 10).all() for image in images)


def test_a_folder_is_decoded_once_and_again_when_it_changes(tmp_path, cache, monkeypatch):
    folder = write_images(tmp_path / 'pets')
    decoded = []
    decode = folders._decode
    monkeypatch.setattr(folders, '_decode', lambda *args: decoded.append(1) or decode(*args))
    load = lambda shape=SHAPE, **options: data.load(str(folder), image_shape=shape, **options).train.fingerprint()
    first = load()
    assert load() == first
    assert load(test_fraction=0.5) != first
    assert len(decoded) == 1
    assert load((6, 5, 1)) != first
    assert len(decoded) == 2
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:200]), lambda path: np.savez(path, images=[1])):
        for path in cache.rglob('pets-*.npz'):
            damage(path)
        decoded.clear()
        assert load() == first
        assert load() == first
        assert len(decoded) == 1
    Image.new('RGB', (5, 6), (0, 0, 99)).save(folder / 'Bär' / 'bild 000 ü.png')
    assert load() != first
    assert len(decoded) == 2


def test_unreadable_files_are_listed_and_skipped_on_request(tmp_path, cache, capsys):
    folder = write_images(tmp_path / 'pets')
    for index in range(7):
        (folder / 'Bär' / f'bild {index:03} ü.png').write_bytes(b'\x89PNG broken')
    (folder / 'Bär' / 'notes.txt').write_text('no image')
    for _ in range(2):  # the second time from the cache
        with pytest.raises(
            InputError, match=r'7 of 20 images of .* cannot be read: Bär/bild 000 ü.png.* and 2 more'
        ) as raised:
            data.load(str(folder), image_shape=SHAPE)
        assert 'skip_unreadable=true' in str(raised.value)
        assert len(str(raised.value).splitlines()) == 1
    capsys.readouterr()
    pets = data.load(str(folder), image_shape=SHAPE, skip_unreadable=True)
    assert np.bincount(np.concatenate([pets.train.labels, pets.test.labels])).tolist() == [3, 10]
    assert min(row for label, row in indices(pets.train) + indices(pets.test) if label == 0) == 7
    error = capsys.readouterr().err
    assert 'ignoring files without an image suffix (1): Bär/notes.txt' in error
    assert 'warning: skipping 7 of 20 images' in error
    for index in range(7, 10):
        (folder / 'Bär' / f'bild {index:03} ü.png').write_bytes(b'')
    with pytest.raises(InputError, match=r'no image of the class of .*Bär.* can be read'):
        data.load(str(folder), image_shape=SHAPE, skip_unreadable=True)


def test_folders_that_are_no_data_set_are_refused(tmp_path, cache):
    def refused(message, folder=tmp_path / 'pets', shape=SHAPE):
        with pytest.raises(InputError, match=message) as raised:
            data.load(str(folder), image_shape=shape)
        assert len(str(raised.value).splitlines()) == 1

    folder = write_images(tmp_path / 'pets', CLASSES[:1])
    refused("has only one class, 'Bär'; a data set is")
    refused('has no folders of classes', folder / 'Bär')
    (folder / 'eel').mkdir()
    refused(r"class 'eel' of .* has no images \(.bmp, ")
    Image.new('L', (5, 6)).save(folder / 'eel' / 'a.png')
    refused("need a common shape: set --config.dataset.image_shape='", shape=None)
    refused("class 'eel' of .* has one image; a class needs two")
    refused(r'image_shape=\(6, 5, 4\) must have 1 channel \(grey\) or 3', shape=(6, 5, 4))
    write_images(folder / 'train')
    refused(r'has no folder test; add test/CLASS/\*')
    write_images(folder / 'val')
    refused('rename val to test')
    write_images(folder / 'test', ('Bär', 'eel'))
    refused('test has no folder for cat & dog; both splits need all classes')
    (folder / 'test' / 'cat & dog').mkdir()
    refused('train has no folder for eel')


def test_a_folder_that_may_not_be_read_is_one_line(tmp_path, cache, monkeypatch):
    folder = write_images(tmp_path / 'pets')

    def denied(*args, **options):
        raise PermissionError(errno.EACCES, 'Permission denied', str(folder / 'cat & dog'))

    monkeypatch.setattr(folders, '_list', denied)
    with pytest.raises(InputError, match=r'cannot read .*pets \(Permission denied: .*cat & dog\)'):
        data.load(str(folder), image_shape=SHAPE)
