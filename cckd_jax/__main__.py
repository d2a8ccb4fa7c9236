"""The command `cckd-jax`, also `python -m cckd_jax`."""

import sys
from collections.abc import Sequence

from cckd_jax import interrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    Args:
      arguments: the command's name and its arguments; those of the process when None.
    """
    interrupt.exit_at_once()
    # Imported here, because Ctrl-C during an import gives a traceback unless the handler is installed first.
    from cckd_jax.cli import commands

    return commands.dispatch(list(sys.argv[1:] if arguments is None else arguments))


if __name__ == '__main__':
    sys.exit(main())
