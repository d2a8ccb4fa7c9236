"""Experiments of many runs: an engine that schedules them, and one file for each study."""
