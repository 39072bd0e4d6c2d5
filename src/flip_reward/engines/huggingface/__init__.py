"""Hugging Face models in this process, by transformers and torch.

`loading` brings a model into memory. `engine` turns requests into rows of tokens (`text`), `batching` gathers rows of
many requests, and `inference` computes a batch: log-probabilities of given tokens, or new tokens; what rows begin
with is read once (`prefixes`).
`classifier` is the engine of reward models, and `classification` what it computes.
"""
