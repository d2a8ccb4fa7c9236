"""Freed memory is kept, and so are the XLA flags of the user."""

import os
import subprocess
import sys

import jaxlib
import pytest

from cckd_jax import cpu

FAULTS = """
import resource
import numpy as np
from cckd_jax import cpu
{keep}
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='glibc alone has the setting')
def test_freed_memory_is_not_faulted_in_again():
    (kept, returned) = (
        int(subprocess.run([sys.executable, '-c', FAULTS.format(keep=keep)], capture_output=True, check=True).stdout)
        for keep in ('cpu.tune()', '')
    )
    assert kept < returned / 10


FLAG = '--xla_cpu_experimental_ynn_fusion_type='


@pytest.mark.parametrize('version', ['0.10.2', '0.12.0.1'])
@pytest.mark.parametrize('flags', ['', '--xla_dump_to=x', FLAG])
def test_flags_of_the_user_are_kept(version, flags, monkeypatch):
    monkeypatch.setattr(jaxlib, '__version__', version)
    monkeypatch.setenv('XLA_FLAGS', flags)
    cpu.tune()
    tuned = os.environ['XLA_FLAGS'].split()
    assert flags in ['', *tuned]
    assert sum(flag.startswith(FLAG) for flag in tuned) == 1


@pytest.mark.parametrize('version', ['0.11.0', '0.13.0', '0.1', '1.0'])
def test_a_version_that_was_not_measured_gets_no_flag(version, monkeypatch):
    monkeypatch.setattr(jaxlib, '__version__', version)
    monkeypatch.setenv('XLA_FLAGS', '')
    cpu.tune()
    assert os.environ['XLA_FLAGS'] == ''


def test_the_installed_version_knows_the_flags():
    program = 'from cckd_jax import cpu; cpu.tune(); import jax; jax.numpy.zeros(1).block_until_ready()'
    subprocess.run([sys.executable, '-c', program], env={**os.environ, 'XLA_FLAGS': ''}, check=True)


CACHE = """
import os
import jax
from cckd_jax import cache
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])
cache.keep_compiled_programs()
print(jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='this system does not bind a process to cores')
@pytest.mark.skipif(len(cpu.cores()) < 2, reason='there is one core')
def test_programs_compiled_on_fewer_cores_are_kept_apart(monkeypatch):
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
    folders = [
        subprocess.run([sys.executable, '-c', CACHE.format(cores=cores)], capture_output=True, check=True).stdout
        for cores in (1, 2)
    ]
    assert folders[0] != folders[1]
