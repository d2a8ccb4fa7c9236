"""Export the student of a run: `python launch/export.py --help`."""

import sys

from cckd_jax import interrupt

if __name__ == '__main__':
    interrupt.exit_at_once()
    # Imported after the handler of Ctrl-C is installed.
    from cckd_jax.export import command

    sys.exit(command.main(['python launch/export.py', *sys.argv[1:]]))
