"""Judges: a template, a schema and a parser each; `base` holds what they share."""
