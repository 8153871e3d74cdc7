"""Counts what a worker does, for the metrics of the observer."""
