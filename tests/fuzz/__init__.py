"""Fuzz targets: each is a script that takes libFuzzer's options, for example ``-runs=10000`` or ``-max_total_time=60``."""
