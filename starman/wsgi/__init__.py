"""PEP 3333: makes an environ of a request's head and body, calls the application, and sends the blocks of its
response.

A call of the application runs in a pool thread and may block; with `--threads 0` it runs in the loop. The methods that
the loop calls, such as those of `RequestBody`, say so.
Must not import asyncio.
"""
