"""Metrics files, progress, and the tables and figures of studies."""
