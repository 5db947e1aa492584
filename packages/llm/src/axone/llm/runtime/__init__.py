"""Threads, processes and process-wide settings: how work is distributed over the cores."""
