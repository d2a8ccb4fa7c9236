import errno
import os
import zipfile

import numpy as np
import pytest

from cckd_jax import io
from cckd_jax.errors import InputError


def fail_with(code):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize('write', [lambda path: io.write_text(path, 'new'), lambda path: io.save_arrays(path, a=1)])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch, write, code):
    path = tmp_path / 'file'
    path.write_text('old')
    monkeypatch.setattr(os, 'fsync', fail_with(code))
    with pytest.raises(InputError, match=f'no space left on the disk while writing {path}; free some space'):
        write(path)
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / 'folder').mkdir()
    with pytest.raises(InputError, match=r'cannot write .*folder \(Is a directory\)'):
        io.write_text(tmp_path / 'folder', 'text')
    assert list(tmp_path.iterdir()) == [tmp_path / 'folder']


@pytest.mark.parametrize('kind', [ValueError, RuntimeError])
def test_a_full_disk_is_recognised_by_the_text_of_tensorstore(tmp_path, kind):
    with pytest.raises(InputError, match='no space left on the disk'), io.write_errors(tmp_path):
        raise kind('RESOURCE_EXHAUSTED: Error writing "0": No space left on device')
    with pytest.raises(kind, match='another'), io.write_errors(tmp_path):
        raise kind('another')


def test_a_full_disk_is_recognised_as_the_cause(tmp_path):
    error = RuntimeError('the writer failed')
    error.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(InputError, match='no space left on the disk'), io.write_errors(tmp_path):
        raise error


def damaged_stream(path):
    np.savez_compressed(path, logits=np.random.default_rng(0).normal(size=1000))
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)


def header_of_300_terabytes(path):
    with path.open('wb') as file:
        np.lib.format.write_array_header_1_0(file, {'descr': '<f4', 'fortran_order': False, 'shape': (75 * 10**12,)})
        file.write(bytes(100))


def header_of_300_terabytes_in_a_zip(path):
    header_of_300_terabytes(path)
    content = path.read_bytes()
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('logits.npy', content)


def unknown_compression(path):
    np.savez(path, logits=np.zeros(3))
    content = path.read_bytes()
    entry = content.index(b'PK\x01\x02')  # of the central directory; its compression method is at 10
    path.write_bytes(content[: entry + 10] + b'\x63\x00' + content[entry + 12 :])


@pytest.mark.parametrize(
    'write',
    [
        damaged_stream,
        header_of_300_terabytes,
        header_of_300_terabytes_in_a_zip,
        unknown_compression,
        lambda path: path.write_text('root:x:0:0'),
        lambda path: path.write_bytes(b''),
        lambda path: path.mkdir(),
        lambda path: np.savez(path, logits=np.array([{}], object)),
    ],
)
def test_a_file_without_readable_arrays_is_one_line(tmp_path, write):
    path = tmp_path / 'logits.npz'
    write(path)
    with pytest.raises(InputError, match='cannot read teacher logits from') as raised:
        io.load_arrays(path, description='teacher logits', default_key='logits')
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    assert 'delete' not in message
    assert 'pickle' not in message


def test_arrays_come_back(tmp_path):
    io.save_arrays(tmp_path / 'a.npz', one=np.arange(3), two=np.eye(2))
    arrays = io.load_arrays(tmp_path / 'a.npz', description='numbers', default_key='one')
    assert arrays.keys() == {'one', 'two'}
    np.save(tmp_path / 'a.npy', np.arange(3))
    arrays = io.load_arrays(tmp_path / 'a.npy', description='numbers', default_key='one')
    np.testing.assert_array_equal(arrays['one'], np.arange(3))
    with pytest.raises(InputError, match='no file of numbers at'):
        io.load_arrays(tmp_path / 'b.npy', description='numbers', default_key='one')


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match='not JSON compliant'):
        io.write_json(tmp_path / 'a.json', {'value': float('nan')})
    assert list(tmp_path.iterdir()) == []
