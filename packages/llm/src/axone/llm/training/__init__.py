"""The trainer: optimization, evaluation, callbacks and loggers."""
