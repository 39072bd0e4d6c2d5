"""Tuning models for this reward."""
