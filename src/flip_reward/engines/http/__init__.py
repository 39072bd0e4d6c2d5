"""Servers that speak the OpenAI protocol.

`engine` is what the rest of the package uses. It sends chat completions through `server`, which knows one model
behind one address and what its failures mean. It gets log-probabilities by `logprob_apis`, with the server's
`tokenizer`, and the numbers of reward models by `classify_apis`. Bodies and errors are read and written in `wire`,
streamed ones are joined in `stream`; `dialect` is what the model wants otherwise, and `transport`, which alone
imports aiohttp, moves bytes.
"""
