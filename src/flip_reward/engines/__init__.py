"""Language models behind one interface.

`base` has the interface and what goes in and out. `config` makes an engine of a model's name: one of `http`,
`llama_cpp`, `huggingface` or `scripted`, with the `middleware` and the `cache` around it. `files` finds models on
disk and on the hub, `lora` adds adapters to them, and `machine` knows the processor.
"""
