"""Several processes that train together, on one host or on many.

Every process runs the same program. The training steps run on the devices of all processes, and JAX sends gradients and
gates among them. Process 0 alone reads and writes the run directory and evaluates; `from_process_0` sends the others
what they need of it. In one process these functions do nothing.
"""

from cckd_jax.processes.devices import (
    all_devices as all_devices,
    connect_devices as connect_devices,
    count as count,
    is_process_0 as is_process_0,
    own_rows as own_rows,
)
from cckd_jax.processes.exchange import (
    check_same as check_same,
    from_process_0 as from_process_0,
    gather as gather,
    process_0_first as process_0_first,
)
from cckd_jax.processes.joining import (
    failures_shared as failures_shared,
    run_together as run_together,
    start as start,
)
