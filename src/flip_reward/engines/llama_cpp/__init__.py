"""llama.cpp in this process, by xllamacpp.

`engine` shares requests out among slots. A `slot` is one llama.cpp server that works on one request at a time, and
`text` turns what a model reads into tokens, for log-probabilities.
"""
