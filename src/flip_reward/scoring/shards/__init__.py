"""Shards: one run in several processes, each with a part of the rows, and merged in the end."""
