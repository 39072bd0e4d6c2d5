"""A GGUF model in this process: `engine` shares requests out to slots, each a llama.cpp context of its own."""
