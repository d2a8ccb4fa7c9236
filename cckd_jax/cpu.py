"""CPU settings of XLA and of the memory allocator that make training faster."""

import ctypes
import os
import sys

import jaxlib

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_FUSIONS = '--xla_cpu_experimental_ynn_fusion_type'
_NO_CONVOLUTIONS = f'{_FUSIONS}=LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'
# The versions of jaxlib on which the flag was measured. XLA ends the process for a flag that it does not know.
_EIGEN_CONVOLUTIONS = {'0.10': _NO_CONVOLUTIONS, '0.12': _NO_CONVOLUTIONS}


def tune() -> None:
    """Makes XLA compute convolutions with Eigen and glibc keep freed memory.

    Call it before JAX computes anything, because XLA reads its flags only once. A setting that the user has made in
    `XLA_FLAGS` stays. The flag covers jaxlib 0.10 and 0.12; other versions, and allocators other than glibc's, keep
    their defaults. Programs for GPUs do not change.
    """
    _convolve_with_eigen()
    _keep_freed_memory()


def cores() -> list[int]:
    """Returns the CPU cores that this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _convolve_with_eigen() -> None:
    """Computes convolutions with Eigen instead of YNNPACK, the default of jaxlib 0.10 and 0.12.

    On 0.10, YNNPACK takes two to eight times as long. On 0.12, a training step without the flag takes 1.3 to 1.4 times
    the CPU time for LeNet-5 and AlexNet-Half, and 0.9 times for LeNet-5-Half.
    """
    flags = os.environ.get('XLA_FLAGS', '')
    version = '.'.join(jaxlib.__version__.split('.')[:2])
    if version in _EIGEN_CONVOLUTIONS and _FUSIONS not in flags:
        os.environ['XLA_FLAGS'] = f'{flags} {_EIGEN_CONVOLUTIONS[version]}'.strip()


def _keep_freed_memory() -> None:
    """Makes glibc keep freed memory instead of returning it to the system.

    A step on a CPU allocates and frees the same hundreds of megabytes every time. If the memory goes back to the
    system, every page of it is faulted in and zeroed again, which takes as long as the arithmetic where page faults are
    slow, as on virtual machines.
    """
    if not sys.platform.startswith('linux'):
        return
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)  # never
        mallopt(_TOP_PAD, 64 * 2**20)
