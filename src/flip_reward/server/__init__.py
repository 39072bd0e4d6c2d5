"""The reward over HTTP: one scoring core behind several contracts."""
