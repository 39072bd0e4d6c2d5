"""OpenVINO GenAI in this process: GGUF models on a CPU, several requests computed at once.

`weights` writes a model's file in the 8 bits that OpenVINO reads right, with the adapter in it. `batches` feeds one
pipeline, which requests join and leave between two steps. `engine` turns requests into tokens, by llama.cpp, and what
was computed into answers.
"""
