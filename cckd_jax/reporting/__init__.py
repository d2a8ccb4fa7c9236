"""Metrics files, progress, figures and the report of a run."""
