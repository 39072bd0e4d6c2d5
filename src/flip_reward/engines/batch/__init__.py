"""Batches: requests as lines of a file, which a server answers hours later at half the price."""
