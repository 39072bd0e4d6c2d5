"""The rollouts that any trainer has logged, watched step by step: `watch_rollouts`.

`columns` finds what stands where, `read` makes rollouts of rows, with `numbers` for those in them, `store` puts them
in the order of their steps, `watch` hands them to the monitor, and `results` is what comes out.
"""
