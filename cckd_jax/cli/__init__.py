"""Command lines: from arguments to a config and a workdir, with one clear line for every kind of bad input."""

from cckd_jax.cli.config_flags import configured as configured, load as load, parse as parse, parse_run as parse_run
from cckd_jax.cli.guard import (
    guarded as guarded,
    main as main,
    one_line_errors as one_line_errors,
    print_text as print_text,
)
from cckd_jax.cli.parser import Parser as Parser
