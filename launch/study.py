"""Run a study of many runs: `python launch/study.py --help`."""

import sys

from cckd_jax.studies import command

if __name__ == '__main__':
    sys.exit(command.main())
