"""What several processes do in test_processes.py: `python together.py COORDINATOR NUMBER ID WORK OUTPUT`."""

import os
import pickle
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import Bench, Flat, Tiny, method_named

from cckd_jax import processes, training
from cckd_jax.cli import one_line_errors
from cckd_jax.errors import InputError

ALL = np.arange(128)
BATCHES = [ALL, ALL[::-1], np.r_[3:99, [-1] * 32]]


def take_steps(devices):
    """Three steps of each kind: state and metrics by name."""
    gated = method_named('cckd_t_reg').override(alpha=0.05)
    few = method_named('kd', keep=lambda inputs: inputs.batch.index % 16 == 3)
    kinds = {
        'batch norm, dropout and gate': (gated, {'module': Tiny(), 'shape': (8, 8, 3)}),
        'compaction': (few, {'module': Flat(), 'make': training.make_compact_step}),
    }
    return {
        name: Bench(method, devices=devices, count=128, **options).run(BATCHES)
        for name, (method, options) in kinds.items()
    }


def steps(output):
    """Process 0 writes the steps and is killed."""
    taken = take_steps(devices=1)
    if processes.is_process_0():
        Path(output).write_bytes(pickle.dumps(taken))
        os.kill(os.getpid(), signal.SIGKILL)
    processes.gather(None)


def messages(output):
    """Values arrive, facts that differ are an error everywhere, and process 1 fails after a step."""
    own = jax.process_index()
    assert processes.gather(own) == list(range(4))
    sent = processes.from_process_0(lambda: {'array': np.arange(3), 'process': own})
    assert (sent['array'].tolist(), sent['process']) == ([0, 1, 2], 0)
    with pytest.raises(InputError, match='process 1 has seed=1, and process 0 has seed=0; start all processes with'):
        processes.check_same(lambda: {'seed': int(own == 1), 'batch_size': 32})
    (_, (metrics,)) = Bench(method_named('kd'), devices=1, count=128, module=Flat()).run([ALL])
    assert metrics['presented'] == 128
    if own == 1:
        raise InputError('no data on this host')
    processes.gather(None)


def main(coordinator, num_processes, process_id, work, output):
    processes.start(coordinator, int(num_processes), int(process_id))
    with processes.failures_shared():
        processes.check_same(lambda: {'devices': jax.local_device_count()})
        processes.connect_devices()
        {'steps': steps, 'messages': messages}[work](output)


if __name__ == '__main__':
    processes.run_together(lambda: one_line_errors(lambda: main(*sys.argv[1:])))
