"""What makes JAX fast on a CPU, of which a process must be told before it computes anything."""

import ctypes
import os
import sys

import jax

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_FUSIONS = '--xla_cpu_experimental_ynn_fusion_type'
_NO_CONVOLUTIONS = f'{_FUSIONS}=LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'


def tune() -> None:
    """Convolves with Eigen and keeps freed memory; does nothing that the user has set otherwise, and no harm on a GPU.

    Call it first: the setting of XLA is read when JAX first computes.
    """
    _convolve_with_eigen()
    _keep_freed_memory()


def cores() -> list[int]:
    """Those that this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _convolve_with_eigen() -> None:
    """Gives convolutions to Eigen, which takes half the time of the YNNPACK that jax 0.10 gives them to, or an eighth.

    Of the versions that are known to have the setting, because XLA ends the process for one that it does not know.
    """
    flags = os.environ.get('XLA_FLAGS', '')
    if jax.__version_info__[:2] == (0, 10) and _FUSIONS not in flags:
        os.environ['XLA_FLAGS'] = f'{flags} {_NO_CONVOLUTIONS}'.strip()


def _keep_freed_memory() -> None:
    """Makes glibc keep what is freed instead of handing it back to the system; elsewhere nothing happens.

    A step on a CPU allocates and frees the same hundreds of megabytes each time. Returned and asked for again, every
    page of them is faulted in and zeroed anew, which takes as long as the arithmetic where page faults are dear, as on
    virtual machines.
    """
    if not sys.platform.startswith('linux'):
        return
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)  # never
        mallopt(_TOP_PAD, 64 * 2**20)
