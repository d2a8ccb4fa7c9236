"""State, the pmapped step, the loop, checkpoints and cached teacher outputs."""

from cckd_jax.training.checkpoints import Checkpoints as Checkpoints
from cckd_jax.training.checkpoints import check_meta as check_meta
from cckd_jax.training.checkpoints import load_network as load_network
from cckd_jax.training.checkpoints import load_participation as load_participation
from cckd_jax.training.choice import choose_step as choose_step
from cckd_jax.training.choice import steps_per_call as steps_per_call
from cckd_jax.training.compaction import make_compact_step as make_compact_step
from cckd_jax.training.compaction import make_compact_step_on_device as make_compact_step_on_device
from cckd_jax.training.loop import NonFiniteLoss as NonFiniteLoss
from cckd_jax.training.loop import Schedule as Schedule
from cckd_jax.training.loop import check_batch as check_batch
from cckd_jax.training.loop import train as train
from cckd_jax.training.state import TrainData as TrainData
from cckd_jax.training.state import TrainState as TrainState
from cckd_jax.training.state import initial_state as initial_state
from cckd_jax.training.state import replicate as replicate
from cckd_jax.training.state import train_data as train_data
from cckd_jax.training.step import Step as Step
from cckd_jax.training.step import make_step as make_step
