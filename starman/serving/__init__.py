"""Serves in a worker: connections in the event loop, exchanges in a pool of threads, listeners, timeouts, the access
log.

The event loop owns the connections; a thread owns the exchange that it runs. Both use `sending.writer`, which holds
the sending side of one connection and the order of its exchanges under one lock, and `executors.pool`, which holds the
queue. Nothing here forks or handles signals.
"""
