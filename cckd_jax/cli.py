"""From command line to config and workdir, with one clear line for whatever is wrong with it.

absl and ml_collections raise tracebacks for a misspelt key or a missing file before `main` is reached, so flags are
parsed here, inside the same net as the run itself.
"""

import sys
from collections.abc import Callable, Sequence

from absl import flags, logging
from ml_collections import config_flags

from cckd_jax import cache
from cckd_jax.errors import InputError

_CONFIG = config_flags.DEFINE_config_file('config', None, 'A config file, e.g. configs/digits_lenet.py[:smoke].')
_WORKDIR = flags.DEFINE_string('workdir', None, 'The run directory; the same command resumes it.')


def main(run: Callable[..., object], usage: str, arguments: Sequence[str] | None = None) -> int:
    """Parses the command line, calls `run(config, workdir)`, and returns the exit status.

    Args:
      run: what to do with the config.
      usage: printed by --help, and after a wrong command line.
      arguments: the command line with the program's name first; `sys.argv` when None.

    Returns:
      0, or 2 after one line on stderr for bad input.
    """
    logging.set_verbosity(logging.ERROR)
    cache.keep_compiled_programs()
    try:
        rest = _parse(list(sys.argv if arguments is None else arguments), usage)
        if rest is None:
            return 0
        run(*rest)
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('stopped; the same command resumes', file=sys.stderr)
        return 130
    return 0


def _parse(arguments: list[str], usage: str):
    if {'--help', '-h', '--helpfull', '-help'} & set(arguments):
        print(usage)
        return None
    try:
        rest = flags.FLAGS(arguments)
    except InputError:
        raise
    except Exception as error:  # absl, ml_collections and the config file each raise their own
        raise InputError(_explain(error)) from None
    if len(rest) > 1:
        raise InputError(f'unexpected argument {rest[1]!r}; settings are given as --config.NAME=VALUE')
    for flag, example in ((_CONFIG, 'configs/digits_lenet.py'), (_WORKDIR, 'runs/digits')):
        if flag.value is None:
            raise InputError(f'--{flag.name} is missing; for example --{flag.name}={example}')
    return _CONFIG.value, _WORKDIR.value


def _explain(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, InputError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return ' '.join(str(error).split()) or type(error).__name__
