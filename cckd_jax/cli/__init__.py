"""Command lines: from arguments to a config and a workdir, with one clear line for every kind of bad input."""

from cckd_jax.cli.config_flags import configured as configured
from cckd_jax.cli.config_flags import load as load
from cckd_jax.cli.config_flags import parse as parse
from cckd_jax.cli.config_flags import parse_run as parse_run
from cckd_jax.cli.guard import guarded as guarded
from cckd_jax.cli.guard import main as main
from cckd_jax.cli.guard import one_line_errors as one_line_errors
