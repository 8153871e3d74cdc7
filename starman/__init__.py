"""starman: a preforking WSGI server for UNIX, an asyncio hybrid.

`starman-uv module:app` starts it; `starman.run(app, **settings)` and `await starman.serve(app, **settings)` embed it.
"""

from starman.errors import RequestTimeout
from starman.server import run, serve
from starman.version import VERSION

__all__ = ["RequestTimeout", "__version__", "run", "serve"]

__version__ = VERSION
