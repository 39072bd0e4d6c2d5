"""Rendered conversations, the marks in them, and the answer behind what a model thinks."""
