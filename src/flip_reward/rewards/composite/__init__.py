"""Rewards made of others by a formula: `formula` reads one, `values` computes it, `reward` asks its parts.

`rules` are the parts that need no model.
"""
