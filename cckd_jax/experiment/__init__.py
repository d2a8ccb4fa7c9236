"""A run from its config to its report: resolving settings, networks, teachers, significance, results."""

from cckd_jax.experiment.resolve import resolve_method as resolve_method
from cckd_jax.experiment.results import write_report as write_report
from cckd_jax.experiment.run import (
    EVALUATION as EVALUATION,
    check as check,
    load_dataset as load_dataset,
    run as run,
)
from cckd_jax.experiment.seeds import train_seeds as train_seeds
