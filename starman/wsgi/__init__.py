"""PEP 3333: from a request's head and body to an environ, through the application, to blocks of a response.

Everything here runs in a pool thread and may block, but for `RequestBody.write`, which the loop calls. Nothing imports asyncio.
"""
