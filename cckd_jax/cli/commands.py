"""The subcommands of `cckd-jax`."""

import importlib
from collections.abc import Callable, Mapping, Sequence

import cckd_jax
from cckd_jax.cli import guard
from cckd_jax.cli.config_flags import asks_for_help
from cckd_jax.errors import lookup

# Each is `main(arguments) -> exit status`, with the program's name as the first argument, and is imported when it runs.
COMMANDS: Mapping[str, str] = {
    'distil': 'cckd_jax.cli.distil:main',
    'study': 'cckd_jax.studies.command:main',
    'reproduce': 'cckd_jax.studies.reproduction.command:main',
    'export': 'cckd_jax.export.command:main',
    'predict': 'cckd_jax.export.predict:main',
    'benchmark': 'cckd_jax.benchmark.command:main',
    'compare': 'cckd_jax.cli.compare:main',
    'list': 'cckd_jax.cli.listing:main',
    'describe': 'cckd_jax.cli.describe:main',
}

USAGE = """\
Distil image classifiers sample by sample, in JAX and Flax.

  cckd-jax distil --config=digits_lenet --workdir=runs/digits    train a teacher, distil a student, evaluate, report
  cckd-jax study ...                                             compare methods over seeds, data sets and settings
  cckd-jax reproduce ...                                         the tables of the CCKD paper, with seeds
  cckd-jax export --run=runs/digits --output=exported            write the student as ONNX, StableHLO and safetensors
  cckd-jax predict --run=runs/digits photo.png                   classify images with the student
  cckd-jax benchmark ...                                         measure speed and memory on this machine
  cckd-jax compare runs/kd runs/cckd_t --output=DIR              runs in one table and one figure
  cckd-jax list methods                                          or networks, datasets, configs, gates, evaluators,
                                                                 optimizers
  cckd-jax describe digits_lenet                                 every setting of a config: value, origin and meaning

Each command has its own --help. `cckd-jax --version` prints the version.
"""


def dispatch(arguments: Sequence[str]) -> int:
    """Runs the subcommand that the first argument names and returns its exit status."""
    (name, *rest) = arguments or ['--help']
    if asks_for_help([name]):
        return guard.one_line_errors(lambda: guard.print_text(USAGE.rstrip()))
    if name == '--version':
        return guard.one_line_errors(_print_version)
    command: list[Callable[[list[str]], int]] = []
    status = guard.one_line_errors(lambda: command.append(_resolve(name)))
    return command[0]([f'cckd-jax {name}', *rest]) if command else status


def _print_version() -> None:
    guard.print_text(cckd_jax.__version__)


def _resolve(name: str) -> Callable[[list[str]], int]:
    (module, _, function) = lookup(COMMANDS, name, 'command').partition(':')
    return getattr(importlib.import_module(module), function)
