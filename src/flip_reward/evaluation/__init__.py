"""Preference benchmarks: which reward tells better responses from worse ones, and how certain that is.

The benchmarks (benchmarks/) and the rewards make an experiment grid (grid.py), whose runs are scored into an
evaluation folder (folder.py). tabulate.py reads the records back, grades them by the benchmark's protocol
(grading.py; layout.py has what is the same for every reward), and makes the results (results.py) with intervals
(statistics.py) and comparisons of rewards (paired.py). compare.py does that for two folders. recipe.py is an
evaluation as a YAML file.
"""
