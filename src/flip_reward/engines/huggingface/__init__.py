"""A Hugging Face model in this process: `engine` queues requests, `batching` groups them, `inference` computes."""
