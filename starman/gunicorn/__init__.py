"""`starman-uv gunicorn …`: serves by the command line and the configuration file of gunicorn, mapped to starman's
settings.

Only `configuration_reader` runs in the process that becomes the master. The configuration file is Python code, so it
runs in a child.
"""

# What the command does after the child has read the configuration: serve, check, or nothing more.
SERVE, CHECK, DONE = "serve", "check", "done"
