"""A run from its config to its report, and what a run needs on the way."""

from cckd_jax.experiment.results import write_report as write_report
from cckd_jax.experiment.run import check as check
from cckd_jax.experiment.run import resolve_method as resolve_method
from cckd_jax.experiment.run import run as run
