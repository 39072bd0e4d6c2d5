"""Tunes a small model to infer instructions.

`tune` reads a `recipe` and its pairs (`data`), orders them (`order`), and lets TRL (`trainer`) learn from them;
`save` writes the model.
"""
