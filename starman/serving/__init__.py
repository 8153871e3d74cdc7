"""Where the loop meets the threads: connections, exchanges, the pool, listeners, time, the access log.

Each object says whose it is. The loop owns connections; a thread owns the exchange it runs; what both touch is in `writer` (one
connection's sending side and its order of exchanges, under one lock) and in `pool` (the queue). Nothing here forks or handles
signals.
"""
