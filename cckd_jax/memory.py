"""How freed memory is held."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
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
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 64 * 2**20)
