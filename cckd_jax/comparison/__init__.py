"""Finished runs side by side: the settings that differ, the measures, and the curves.

It reads `config.json`, `results.json` and `metrics.jsonl` of the run directories, and does not import JAX.
"""

from cckd_jax.comparison.page import render_html as render_html
from cckd_jax.comparison.runs import load as load
from cckd_jax.comparison.tables import compare as compare, render_markdown as render_markdown
from cckd_jax.comparison.writing import write as write
