"""Questions that take many runs: which ones, and what they say together."""
