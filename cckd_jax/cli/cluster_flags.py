"""The flags of a run in several processes: `--coordinator`, `--num_processes` and `--process_id`."""

import re
from typing import NamedTuple

from absl import flags

from cckd_jax.errors import InputError

AUTO = 'auto'


class Cluster(NamedTuple):
    """Where the processes of a run meet.

    Attributes:
      coordinator: `HOST:PORT` of process 0, or `auto`.
      num_processes: their number; None with `auto`.
      process_id: the number of this process, from 0; None with `auto`.
    """

    coordinator: str
    num_processes: int | None = None
    process_id: int | None = None


def define(values: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, or auto.', flag_values=values)
    flags.DEFINE_integer('num_processes', None, 'Number of processes.', flag_values=values)
    flags.DEFINE_integer('process_id', None, 'Number of this process, from 0.', flag_values=values)


def read(values: flags.FlagValues) -> Cluster | None:
    """The cluster that parsed flags describe; None for a run in one process.

    Raises:
      InputError: a flag is missing, contradicts another one, or has no possible value.
    """
    (coordinator, number, own) = (values[name].value for name in Cluster._fields)
    if coordinator == AUTO:
        if number is not None or own is not None:
            raise InputError(
                '--coordinator=auto asks the cluster for --num_processes and --process_id; leave both out, or give '
                '--coordinator=HOST:PORT'
            )
        return Cluster(AUTO)
    if coordinator is None and number is None and own is None:
        return None
    if coordinator is None or number is None or own is None:
        missing = [f'--{name}' for name in Cluster._fields if values[name].value is None]
        raise InputError(
            f'{" and ".join(missing)} missing: several processes need --coordinator=HOST:PORT, --num_processes=N and '
            '--process_id=I, or --coordinator=auto on a cluster'
        )
    port = re.fullmatch(r'.+:(\d{1,5})', coordinator)
    if port is None or not 1 <= int(port[1]) < 2**16:
        raise InputError(f'--coordinator={coordinator} must be HOST:PORT of process 0, such as 10.0.0.1:12345, or auto')
    if number < 1:
        raise InputError(f'--num_processes={number} must be at least 1')
    if not 0 <= own < number:
        raise InputError(f'--process_id={own} must be in [0, {number}) with --num_processes={number}')
    return Cluster(coordinator, number, own)
