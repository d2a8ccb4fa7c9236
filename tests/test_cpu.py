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
