"""Compare finished runs: `python launch/compare.py --help`."""

import sys

from cckd_jax import interrupt

if __name__ == '__main__':
    interrupt.exit_at_once()
    # Imported after the handler of Ctrl-C is installed.
    from cckd_jax.cli import compare

    sys.exit(compare.main(['python launch/compare.py', *sys.argv[1:]]))
