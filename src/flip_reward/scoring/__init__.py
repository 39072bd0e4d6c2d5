"""Rewards over a whole data set: rows in, a run folder of records out.

`job` opens inputs and folder and calls `runner`, which scores row by row into a `run_folder`; what is kept there are
`records`, the `manifest` and the `summary`. `rescore` compares the inferences of a run another way.
"""
