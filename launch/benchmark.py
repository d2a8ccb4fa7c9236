"""Measure the speed and memory of this machine; `--help` lists the suites."""

import sys

from cckd_jax import interrupt

if __name__ == '__main__':
    interrupt.exit_at_once()
    # Imported after the handler of Ctrl-C is installed.
    from cckd_jax.benchmark.command import main

    sys.exit(main())
