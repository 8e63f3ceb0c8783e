"""Benchmarks of aiomos beside other tools; ``README.md`` says how to read the numbers."""
