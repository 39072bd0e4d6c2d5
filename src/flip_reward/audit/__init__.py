"""Finds out how a reward can be gamed, before a policy does, and sees it when one does.

`attacks` are pure functions that change a response. `run` has rewards score genuine and attacked responses, and
`tabulate` makes `figures` of it, which `findings` puts in words and `thresholds` hold a release to. `monitor` watches
the rollouts of a training, while it goes on or from its logs.
"""
