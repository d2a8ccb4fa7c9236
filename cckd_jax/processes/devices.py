"""The processes, and the devices of all of them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np


def count() -> int:
    """Number of processes."""
    return jax.process_count()


def is_process_0() -> bool:
    """Whether this process reads and writes the run directory; true if there is only one."""
    return jax.process_index() == 0


def all_devices(devices: Sequence[jax.Device]) -> Sequence[jax.Device]:
    """The devices that the training steps run on: those of all processes, in the order of the processes.

    Args:
      devices: of this process. In one process they are returned.
    """
    if count() == 1:
        return devices
    return [device for process in range(count()) for device in jax.local_devices(process)]


def connect_devices() -> None:
    """Connects the devices of all processes, which call this at the same time: gloo waits for 30 s only.

    Later the processes may compile for a longer time than that before they meet in a step.
    """
    if count() == 1:
        return
    devices = all_devices(jax.local_devices())
    total = jax.pmap(lambda value: jax.lax.psum(value, 'devices'), axis_name='devices', devices=devices)
    jax.block_until_ready(total(np.ones(jax.local_device_count(), np.float32)))


def own_rows(rows: Any) -> Any:
    """The slices of this process's devices, from an array whose first axis is over the devices of all processes."""
    if count() == 1:
        return rows
    own = jax.local_device_count()
    return rows[jax.process_index() * own : (jax.process_index() + 1) * own]
