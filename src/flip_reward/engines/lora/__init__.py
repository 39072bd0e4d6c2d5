"""LoRA adapters.

`adapter` reads them as PEFT folders or GGUF files and adds them to models, with `base_model`, which tells whether a
model is the one they are for, and `gguf`, which reads the format. `export` writes a PEFT folder as a GGUF file, and
`shipped` is the adapter that comes with this package.
"""
