"""The commands for servers that run: `starman-uv status` and others. They are clients of the control socket.

The command line imports this module before it serves, so it must not import anything large.
"""

from __future__ import annotations

# What each command does, for --help.
COMMANDS = {
    "status": "Show the workers of a server, and what they are doing.",
    "stacks": "Show what all threads of all processes are doing now, with their requests.",
    "trace": "Show requests as they finish, until Ctrl-C.",
    "top": "Show a live view of a server: its workers, their requests and stacks.",
    "report": "Write everything that a bug report needs into one file.",
    "scale": "Change the number of workers.",
    "reload": "Restart the workers with fresh code and settings, without losing a request.",
    "stop": "Stop the server; requests in flight are finished.",
}
