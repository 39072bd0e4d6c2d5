"""Watches the rollouts of a training: `figures` describe a step, `alarms` say when the reward is being gamed."""
