"""LoRA adapters: `adapter` reads them as GGUF or PEFT files, `export` writes them, `shipped` is the package's own."""
