"""Reproduce the tables of the CCKD paper: `python launch/reproduce.py --help`."""

import sys

from cckd_jax import interrupt

if __name__ == '__main__':
    interrupt.exit_at_once()
    # Imported after the handler of Ctrl-C is installed.
    from cckd_jax.studies.reproduction.command import main

    sys.exit(main())
