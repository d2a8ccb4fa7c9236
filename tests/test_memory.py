"""Freed memory is held: the second time round, pages are there already."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from cckd_jax import memory
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
        for keep in ('memory.keep_freed_memory()', '')
    )
    assert kept < returned / 10
