"""Freed memory is held, so that pages are there the second time round, and the user's XLA flags are kept."""

import os
import subprocess
import sys

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


@pytest.mark.parametrize('given', ['', '--xla_dump_to=x', '--xla_cpu_experimental_ynn_fusion_type='])
def test_flags_of_the_users_own_are_kept(given, monkeypatch):
    monkeypatch.setenv('XLA_FLAGS', given)
    cpu.tune()
    flags = os.environ['XLA_FLAGS'].split()
    assert given in ['', *flags]
    assert sum(flag.startswith('--xla_cpu_experimental_ynn_fusion_type=') for flag in flags) == 1


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
