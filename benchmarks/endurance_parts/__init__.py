"""The parts of `benchmarks/endurance.py`; each yields the JSON values of its trials."""
