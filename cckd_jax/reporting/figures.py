"""The former names of `cckd_jax.report.style`."""

from cckd_jax.report.style import COLORS as COLORS
from cckd_jax.report.style import LABELS as LABELS
from cckd_jax.report.style import TEACHER_COLORS as TEACHER_COLORS
from cckd_jax.report.style import clean as plain
from cckd_jax.report.style import epoch_axis as over_epochs
from cckd_jax.report.style import save as save

__all__ = ['COLORS', 'LABELS', 'TEACHER_COLORS', 'over_epochs', 'plain', 'save']
