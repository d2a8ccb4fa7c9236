"""Damaged entries of the cache are computed again, with a line, and never used."""

import os
import subprocess
import sys

import numpy as np
import pytest

from cckd_jax.cache import CheckedPrograms
from cckd_jax.data.cached import cached_arrays

DAMAGE = {
    'empty': lambda content: b'',
    'truncated': lambda content: content[: len(content) // 2],
    'flipped': lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    'garbage': lambda content: np.random.default_rng(0).bytes(len(content)),
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_a_damaged_program_is_missing_and_can_be_written_again(damage, tmp_path, capsys):
    programs = CheckedPrograms(tmp_path / 'programs')
    assert programs.get('key') is None
    programs.put('key', b'a compiled program')
    assert programs.get('key') == b'a compiled program'
    (path,) = (tmp_path / 'programs').iterdir()
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert programs.get('key') is None
    assert f'{path} is damaged; compiling it again' in capsys.readouterr().err
    programs.put('key', b'a compiled program')
    assert programs.get('key') == b'a compiled program'
    assert capsys.readouterr().err == ''


def test_a_program_that_cannot_be_written_is_not_kept(tmp_path):
    (tmp_path / 'programs').write_text('')
    programs = CheckedPrograms(tmp_path / 'programs')
    programs.put('key', b'a compiled program')
    assert programs.get('key') is None


PROGRAM = """
from cckd_jax import cache
cache.keep_compiled_programs()
import jax
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
print(jax.jit(lambda x: x + 1)(1))
"""


def test_jax_keeps_its_programs_in_checked_files(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith('JAX_')}
    environment |= {'XDG_CACHE_HOME': str(tmp_path), 'JAX_PLATFORMS': 'cpu'}
    run = lambda: subprocess.run([sys.executable, '-c', PROGRAM], env=environment, capture_output=True, check=True)
    run()
    paths = [path for path in (tmp_path / 'cckd_jax' / 'compiled').rglob('*') if path.is_file()]
    assert paths
    for path in paths:
        path.write_bytes(b'')
    again = run()
    assert again.stdout == b'2\n'
    assert b'compiling it again' in again.stderr
    assert b'Error' not in again.stderr
    assert run().stderr == b''


@pytest.mark.parametrize('damage', DAMAGE)
def test_damaged_arrays_are_computed_again(damage, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    load = lambda: cached_arrays('name', lambda: {'values': np.arange(99)}, lambda arrays: arrays.keys() == {'values'})
    load()
    assert capsys.readouterr().err == ''
    path = tmp_path / 'cckd_jax' / 'decoded' / 'name.npz'
    content = path.read_bytes()
    # The end of an archive is its directory, whose flags may differ without effect.
    path.write_bytes(DAMAGE[damage](content[:500]) + (content[500:] if damage == 'flipped' else b''))
    for message in ('computing it again', ''):
        np.testing.assert_array_equal(load()['values'], np.arange(99))
        assert message in capsys.readouterr().err
