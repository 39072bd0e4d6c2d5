"""Attacks: texts that a policy might learn to write, made of an instruction and a response without a model.

A family a file; `catalogue` has all of them by name.
"""
