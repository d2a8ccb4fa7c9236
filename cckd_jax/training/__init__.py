"""State, the pmapped step, the loop, checkpoints and cached teacher outputs."""

from cckd_jax.training.checkpoints import (
    Checkpoints as Checkpoints,
    check_meta as check_meta,
    check_variables as check_variables,
    load_network as load_network,
    load_participation as load_participation,
)
from cckd_jax.training.choice import (
    check_compaction as check_compaction,
    choose_step as choose_step,
    steps_per_call as steps_per_call,
)
from cckd_jax.training.compaction import (
    make_compact_step as make_compact_step,
    make_compact_step_on_device as make_compact_step_on_device,
)
from cckd_jax.training.loop import (
    NonFiniteLoss as NonFiniteLoss,
    Schedule as Schedule,
    check_batch as check_batch,
    train as train,
)
from cckd_jax.training.peer_checkpoints import PeerCheckpoints as PeerCheckpoints
from cckd_jax.training.peers import PeerState as PeerState, make_peer_step as make_peer_step
from cckd_jax.training.seeds import (
    SeedsState as SeedsState,
    make_seeds_step as make_seeds_step,
    stack_data as stack_data,
)
from cckd_jax.training.shared_checkpoints import shared_checkpoints as shared_checkpoints
from cckd_jax.training.state import (
    TrainData as TrainData,
    TrainState as TrainState,
    initial_state as initial_state,
    replicate as replicate,
    train_data as train_data,
)
from cckd_jax.training.step import Step as Step, make_step as make_step
from cckd_jax.training.streaming import make_stream as make_stream
from cckd_jax.training.teacher_outputs import write_logits as write_logits
from cckd_jax.training.totals import PeerTotals as PeerTotals
