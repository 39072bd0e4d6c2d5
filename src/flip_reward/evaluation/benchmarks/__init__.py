"""Preference benchmarks, a file each: where its rows are, how they are read, and how its authors count.

`catalogue.load_benchmark` finds a benchmark by its name and reads its rows into `BenchmarkItem`s (base.py). Each
benchmark's file has a `to_item` that makes an item of a row, and a `Protocol` (../grading.py) that grades rewards.
"""
