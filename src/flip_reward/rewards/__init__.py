"""Reward models: a group of responses in, a score for each out.

Each file is one reward (`flip`, `backward_likelihood`, `trained`, `controls`, `judges/`), built on `base`; `config`
makes one of settings, and `similarities` are what `flip` compares with.
"""
