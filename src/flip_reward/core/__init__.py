"""What everything else stands on, without a model or a file: conversations, prompts, replies, similarity and scores.

A reward selects what is inferred and the visible answer (`response`), formats a prompt (`prompts`), reads the reply
(`replies`), compares it with the original (`similarity`, over `tokens`), and makes a `score`.
"""
