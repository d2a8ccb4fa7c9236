"""The tables of the CCKD paper (arXiv:2107.06993) beside our own runs."""
