"""Trained students outside their runs: loaded in Python, and exported as ONNX, StableHLO and safetensors."""

from cckd_jax.export.loading import load as load
from cckd_jax.export.student import Description as Description, Student as Student
