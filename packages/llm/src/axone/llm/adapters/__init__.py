"""Adapters: low-rank changes of a frozen model, in PEFT's format."""
