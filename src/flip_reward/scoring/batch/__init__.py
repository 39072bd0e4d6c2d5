"""Runs that are answered by batches: what is asked, what came back, and the steps in between."""
