"""Writes the access log: a line for each request, in the format of the settings, gathered and written in batches."""
