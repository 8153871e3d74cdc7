"""The metrics that the observer offers: what they are called, where their values come from, how they are written."""
