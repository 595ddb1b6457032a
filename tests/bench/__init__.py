"""How fast, how small: ``python -m tests.bench`` measures every budget in one run and prints one table.

Times are CPU time added over a no-op middleware of the same kind: medians over many rounds in which the two take turns.
"""
