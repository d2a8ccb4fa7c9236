"""Run a study of many runs: `python launch/study.py --help`."""

import sys

from cckd_jax import interrupt

if __name__ == '__main__':
    interrupt.exit_at_once()
    # Imported after the handler of Ctrl-C is installed.
    from cckd_jax.studies import command

    sys.exit(command.main())
