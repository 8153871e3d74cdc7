"""PEP 3333: makes an environ of a request's head and body, calls the application, and sends the blocks of its
response.

Everything here runs in a pool thread and may block, except the methods of `RequestBody` that are marked for the loop.
Must not import asyncio.
"""
