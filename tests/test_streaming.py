"""Images that stay on the disk train, and are evaluated, as those in memory."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from helpers import Bench, Flat, PeerBench, assert_trees_close, assert_trees_equal, method_named, tiny_config
from onnx_graphs import save_linear
from PIL import Image
from test_compaction import BATCHES, DropsAlone, keep_few
from test_loop import final_state, untimed

from cckd_jax import data, evaluation, experiment, models, training
from cckd_jax.data import folders, memory
from cckd_jax.data.split import Split
from cckd_jax.errors import InputError
from cckd_jax.training.onnx_teacher import Preprocessing, load_onnx

STREAMED = 1e-9  # GiB, less than any data set
SPLITS = ('train', 'validation', 'test')


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def write_folder(folder, count, size):
    """Images of noise in two classes."""
    random = np.random.default_rng(0)
    for index in range(count):
        path = folder / f'class {index % 2}' / f'{index:03}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8)).save(path, compress_level=1)
    return str(folder)


def write_npz(path, save=np.savez, dtype=np.uint8):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (30, 6, 5, 3)) if dtype == np.uint8 else random.random((30, 6, 5, 3))
    images, labels = images.astype(dtype), np.arange(30) % 3
    save(path, x_train=images[:20], y_train=labels[:20], x_test=images[20:], y_test=labels[20:])
    return str(path)


SOURCES = {
    'ArrayRecord': lambda folder: ('digits', {'examples': 100}),
    'folder': lambda folder: (write_folder(folder / 'pets', 12, 8), {'image_shape': (6, 5, 3)}),
    'npz': lambda folder: (write_npz(folder / 'own.npz'), {}),
}


@pytest.mark.parametrize('source', SOURCES)
def test_every_source_has_the_same_examples_on_the_disk_as_in_memory(source, tmp_path, cache):
    (name, options) = SOURCES[source](tmp_path)
    load = lambda limit: data.load(name, validation_fraction=0.2, memory_gib=limit, **options)
    in_memory = load(1)
    for _ in range(2):  # the second time from the cache
        stored = load(STREAMED)
        assert stored.image_shape == in_memory.image_shape
        np.testing.assert_array_equal(stored.rows, in_memory.rows)
        for split in SPLITS:
            (own, expected) = (getattr(stored, split), getattr(in_memory, split))
            assert (own.is_stored, expected.is_stored) == (True, False)
            np.testing.assert_array_equal(own.images[:], expected.images)
            np.testing.assert_array_equal(own.labels, expected.labels)
            assert own.fingerprint() == expected.fingerprint()


def test_batches_arrive_in_their_order_with_every_example_once():
    pixels = np.arange(1000, dtype=np.uint16).astype(np.uint8).reshape(-1, 1, 1, 1)
    images = data.StoredImages(pixels, 'counted').take(np.arange(1000)[::-1])
    read = list(data.consecutive_batches(images, 7))
    np.testing.assert_array_equal(np.concatenate(read), pixels[::-1])
    order = list(data.epoch_batches(np.arange(1000), batch_size=64, seed=3, epoch=1))
    for indices, batch in zip(order, data.read_batches(images, order), strict=True):
        np.testing.assert_array_equal(batch, pixels[::-1][np.maximum(indices, 0)])


def test_evaluation_counts_every_streamed_example_once(one_device):
    split = Bench(method_named('kd'), devices=1, count=37, module=DropsAlone(), shape=(8, 8, 3)).split
    module = DropsAlone()
    network = models.Network(module, module.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32)))
    stored = data.StoredImages(split.images, 'random')
    expected = evaluation.predict(network, split.images, devices=one_device)
    np.testing.assert_array_equal(evaluation.predict(network, stored, devices=one_device), expected)
    assert len(expected) == 37


def bench(make):
    method = method_named('kd', keep=keep_few)
    return Bench(method, devices=2, count=128, module=DropsAlone(), shape=(8, 8, 3), make=make)


def peer_bench():
    method = method_named('cckd_online_t', keep=keep_few)
    return PeerBench(method, (Flat(), Flat(width=2.0)), devices=2, count=128, shape=(8, 8, 3))


BENCHES = {
    'masked': lambda: bench(training.make_step),
    'compact': lambda: bench(training.make_compact_step),
    'compact on the device': lambda: bench(training.make_compact_step_on_device),
    'peers': peer_bench,
}


@pytest.mark.parametrize('kind', BENCHES)
def test_a_step_with_streamed_images_is_the_step_with_images_on_the_devices(kind):
    (in_memory, streamed) = (BENCHES[kind](), BENCHES[kind]())
    expected = in_memory.run(BATCHES)
    stored = Split(data.StoredImages(streamed.split.images, 'random'), streamed.split.labels)
    assert training.train_data(stored, {}, jax.random.key(0)).images is None
    train_data = streamed.train_data.replace(images=None)
    stream = training.make_stream(stored.images, streamed.devices)
    (state, metrics) = (streamed.state.at_epoch(0, streamed.devices), [])
    for rows in stream(np.asarray(batch, np.int32).reshape(2, -1) for batch in BATCHES):
        (state, measured) = streamed.step(state, train_data, rows)
        metrics.append(jax.device_get(measured))
    # XLA may fuse the arithmetic otherwise, which moves the last bit.
    assert_trees_close((jax.device_get(state), metrics), expected, rtol=1e-5, atol=1e-7)


def test_a_teacher_from_outside_reads_images_on_the_disk(tmp_path, monkeypatch, digits):
    few = digits._replace(train=digits.train.take(np.arange(40)), test=digits.test.take(np.arange(10)))
    store = lambda split: Split(data.StoredImages(split.images, str(len(split))), split.labels)
    kernel = np.random.default_rng(0).normal(size=(28 * 28, 10))
    path = save_linear(tmp_path / 'teacher.onnx', kernel, image_shape=(28, 28, 1), batch=7)
    outputs = []
    for name, dataset in (('memory', few), ('disk', few._replace(train=store(few.train), test=store(few.test)))):
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / name))  # it would be read from the cache the second time
        outputs.append(load_onnx(path, dataset, Preprocessing()))
    assert_trees_equal(*outputs)


def without_seconds(workdir):
    results = json.loads((workdir / 'results.json').read_text())
    drop = lambda value: {k: drop(v) for k, v in value.items() if k != 'seconds'} if isinstance(value, dict) else value
    return drop(results)


def test_a_streamed_run_that_resumes_ends_as_the_run_in_memory(tmp_path, one_device, capsys):
    fields = {'method': 'cckd_t_reg', 'alpha': 1.0, 'recheck': True, 'student.epochs': 4, 'save_seconds': 0.0}
    fields['separate.enabled'] = False
    start = lambda workdir, limit: experiment.run(
        tiny_config(**fields, **{'dataset.memory_gib': limit}), workdir, devices=one_device
    )
    (in_memory, streamed) = (tmp_path / 'in_memory', tmp_path / 'streamed')
    start(in_memory, None)
    start(streamed, STREAMED)
    assert 'they are read from the disk in every epoch' in capsys.readouterr().err
    for name in ('report.md', 'results.json'):
        (streamed / name).unlink()
    shutil.rmtree(streamed / 'student' / 'checkpoints' / '4')
    start(streamed, STREAMED)
    assert 'resuming after epoch' in capsys.readouterr().err
    for name in ('teacher', 'student'):
        assert untimed(streamed / name) == untimed(in_memory / name)
        assert_trees_equal(final_state(streamed / name), final_state(in_memory / name))
    assert without_seconds(streamed) == without_seconds(in_memory)
    assert sum(row['samples_used'] for row in untimed(streamed / 'student')) < 4 * 128


def test_images_of_the_size_of_imagenet_go_from_a_folder_to_the_report(tmp_path, cache, one_device, monkeypatch):
    folder = write_folder(tmp_path / 'photos', 64, 224)
    fields = {'dataset.name': folder, 'dataset.image_shape': (224, 224, 3), 'dataset.examples': None}
    config = tiny_config(**fields, **{'dataset.memory_gib': 0.005, 'batch_size': 16, 'separate.enabled': False})
    results = experiment.run(config, tmp_path / 'run', devices=one_device)
    assert results['student']['samples_presented'] == 52
    monkeypatch.setattr(folders, 'decode', None)  # the folder is converted once
    assert data.load(folder, image_shape=(224, 224, 3), memory_gib=0.005).train.is_stored


def test_the_limit_is_half_of_the_free_memory_unless_it_is_set(monkeypatch, cache):
    digits = lambda: data.load('digits', image_shape=(28, 28, 1)).train
    monkeypatch.setattr(memory, 'free_memory', lambda: 2 * 1797 * 28 * 28)
    assert not digits().is_stored
    monkeypatch.setattr(memory, 'free_memory', lambda: 2 * 1797 * 28 * 28 - 2)
    assert digits().is_stored


class Accelerator:
    def memory_stats(self):
        return {'bytes_limit': 1000, 'bytes_in_use': 200}


def test_a_device_with_memory_of_its_own_lowers_the_limit():
    assert memory.memory_limit(None, [Accelerator(), Accelerator()]) == 400
    assert memory.memory_limit(1.0, [Accelerator()]) == 2**30


def test_an_accelerator_takes_one_step_per_call_of_images_on_the_disk(monkeypatch):
    monkeypatch.setattr(training.choice, '_on_cpu', lambda devices: False)
    assert training.steps_per_call(method_named('kd'), jax.devices(), is_stored=True) == 1


def test_what_cannot_be_streamed_is_refused_in_one_line(tmp_path, cache, monkeypatch):
    def refused(message, *arguments, **options):
        with pytest.raises(InputError, match=message) as raised:
            data.load(*arguments, memory_gib=STREAMED, **options)
        assert len(str(raised.value).splitlines()) == 1

    refused('x_train of .* and compressed; save it', write_npz(tmp_path / 'small.npz', np.savez_compressed))
    refused('x_train of .* and float32; save it', write_npz(tmp_path / 'floats.npz', dtype=np.float32))
    with pytest.raises(InputError, match=r'dataset\.memory_gib=0\.0 must be above 0'):
        experiment.run(tiny_config(**{'dataset.memory_gib': 0.0}), tmp_path / 'run')
    folder = write_folder(tmp_path / 'pets', 4, 8)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: (1000, 900, 100))
    refused('the 4 images take .* less free space; free some', folder, image_shape=(8, 8, 3))
    monkeypatch.undo()
    monkeypatch.setenv('XDG_CACHE_HOME', '/dev/null/cache')
    refused('cannot write /dev/null/cache', folder, image_shape=(8, 8, 3))


def flip_a_bit(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_damaged_record_ends_training_with_one_line_and_digits_are_repaired(cache):
    digits = data.load('digits', memory_gib=STREAMED)
    for path in cache.rglob('*train.array_record*'):
        flip_a_bit(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"cannot read train of 'digits' .*; prepare it again"):
        list(data.read_batches(digits.train.images, [np.arange(len(digits.train))]))
    repaired = data.load('digits', memory_gib=STREAMED).train
    assert repaired.is_stored
    np.testing.assert_array_equal(repaired.images[:], data.load('digits', memory_gib=1).train.images)


def test_damaged_images_of_a_folder_are_decoded_again(tmp_path, cache, capsys):
    folder = write_folder(tmp_path / 'pets', 30, 60)
    load = lambda limit: data.load(folder, image_shape=(60, 60, 3), memory_gib=limit).train
    expected = load(1).images
    stored = load(STREAMED).images
    (path,) = cache.rglob('*.array_record')
    flip_a_bit(path, path.stat().st_size // 2)
    capsys.readouterr()
    np.testing.assert_array_equal(stored[:], expected)
    assert capsys.readouterr().err.count('is damaged') == 1
    for damage in (lambda: None, lambda: path.write_bytes(path.read_bytes()[:70_000])):
        damage()
        np.testing.assert_array_equal(load(STREAMED).images[:], expected)
        assert 'decoding 30 images' in capsys.readouterr().err  # the whole file is written again
    load(STREAMED)
    assert 'decoding' not in capsys.readouterr().err


def test_an_unreadable_image_of_a_folder_is_left_out_until_it_can_be_read(tmp_path, cache):
    folder = tmp_path / 'pets'
    write_folder(folder, 12, 8)
    path = folder / 'class 0' / '004.png'
    (content, times) = (path.read_bytes(), path.stat())
    path.write_bytes(bytes(len(content)))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    load = lambda limit: data.load(str(folder), image_shape=(8, 8, 3), memory_gib=limit, skip_unreadable=True)
    count = lambda dataset: len(dataset.train) + len(dataset.test)
    assert count(load(STREAMED)) == count(load(1)) == 11
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert count(load(STREAMED)) == 12
    np.testing.assert_array_equal(load(STREAMED).train.images[:], load(1).train.images)


def test_a_damaged_npz_is_refused_before_training(tmp_path, cache):
    path = tmp_path / 'own.npz'
    write_npz(path)
    flip_a_bit(path, 500)
    with pytest.raises(InputError, match=r'cannot read .*own\.npz as \.npz \(BadZipFile: Bad CRC-32'):
        data.load(str(path), memory_gib=STREAMED)


def test_a_container_lowers_the_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, '_CONTAINER_LIMIT', tmp_path / 'memory.max')
    expected = memory.free_memory()
    (tmp_path / 'memory.max').write_text('max\n')
    assert memory.free_memory() == pytest.approx(expected, rel=0.2)  # other programs run
    (tmp_path / 'memory.max').write_text('4096\n')
    assert memory.free_memory() == 4096
