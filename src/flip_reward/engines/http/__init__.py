"""A language model behind any OpenAI-compatible server: `engine` asks through `transport`, in the words of `wire`."""
