"""How much memory the images of a data set may take."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import jax

# Of Linux control groups, version 2.
_CONTAINER_LIMIT = Path('/sys/fs/cgroup/memory.max')


def memory_limit(memory_gib: float | None, devices: Sequence[jax.Device] = ()) -> float:
    """Bytes that the images may take before they stay on the disk.

    Args:
      memory_gib: the limit in GiB; None for half of the free memory of the machine or, if that is less, of a device.
      devices: that will hold the images; those without memory of their own, such as CPUs, have no limit.

    >>> memory_limit(0.5)
    536870912.0
    """
    if memory_gib is not None:
        return memory_gib * 2**30
    stats = [device.memory_stats() or {} for device in devices]
    of_devices = [memory['bytes_limit'] - memory['bytes_in_use'] for memory in stats if 'bytes_limit' in memory]
    return min(free_memory(), *of_devices) / 2 if of_devices else free_memory() / 2


def free_memory() -> int:
    """Bytes of memory that programs can still use, cached files included; at most the limit of a container."""
    sizes = [os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')]
    with contextlib.suppress(OSError):  # not Linux
        lines = Path('/proc/meminfo').read_text().splitlines()
        sizes += [int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable:')]
    with contextlib.suppress(OSError, ValueError):  # not in a container, or one whose limit is `max`
        sizes.append(int(_CONTAINER_LIMIT.read_text()))
    return min(sizes)
