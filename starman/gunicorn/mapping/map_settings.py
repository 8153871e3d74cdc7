"""Maps the settings of gunicorn to those of starman: each is used, harmless, not supported, or refused, with the
reason.

docs/coming-from-gunicorn.md has the same table for readers.
"""

from __future__ import annotations

import os

from starman.gunicorn.configuration import DEFAULT, ConfigurationError
from starman.gunicorn.mapping.connection_settings import CONNECTION_SETTINGS
from starman.gunicorn.mapping.log_settings import LOG_SETTINGS
from starman.gunicorn.mapping.outcomes import Outcomes
from starman.gunicorn.mapping.process_settings import PROCESS_SETTINGS
from starman.gunicorn.mapping.tables import CALLED, DEFAULTS, HARMLESS, HOOKS_MODULE, REFUSED, SAME, UNSUPPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.gunicorn.configuration import Resolved

# For each setting whose value is not taken as it is, the function that says what it becomes.
FUNCTIONS = {**PROCESS_SETTINGS, **CONNECTION_SETTINGS, **LOG_SETTINGS}


def map_settings(resolved: Resolved) -> Outcomes:
    """Map every setting that was given, and the defaults that count. Raises ConfigurationError without an
    application."""
    outcomes = Outcomes(resolved)
    _application(resolved, outcomes)
    for name, value in resolved.values.items():
        if (not value.given and name not in DEFAULTS) or name in ("check_config", "print_config"):
            continue
        if name in SAME:
            if value.value is not None:
                outcomes.use(name, **{SAME[name]: value.value})
        elif name in CALLED:
            outcomes.use(name, hooks=HOOKS_MODULE)
        elif name in FUNCTIONS:
            FUNCTIONS[name](resolved, outcomes)
        elif name in HARMLESS or resolved.is_default(name):
            outcomes.ignore(name, HARMLESS.get(name) or "it is the default")
        elif name in REFUSED:
            outcomes.refuse(name, REFUSED[name])
        else:
            outcomes.cannot(name, UNSUPPORTED[name])
    _surroundings(resolved, outcomes)
    return outcomes


def _application(resolved: Resolved, outcomes: Outcomes) -> None:
    """`app`: the argument of the command line, else wsgi_app; "module" is "module:application"."""
    if resolved.value("paste") is not None:
        return
    application = resolved.application or resolved.value("wsgi_app")
    if not application:
        raise ConfigurationError("no application is given: write starman-uv gunicorn MODULE:APPLICATION, or set wsgi_app")
    text = str(application)
    source = "the command line" if resolved.application else resolved.values["wsgi_app"].source
    outcomes.also("app", text if ":" in text else f"{text}:application", source)


def _surroundings(resolved: Resolved, outcomes: Outcomes) -> None:
    """What the configuration file has changed in its process, and what gunicorn does not limit."""
    changed = [f"{name}={value}" for name, value in resolved.environment.items()]
    if changed:
        outcomes.also("env", [*changed, *resolved.texts("raw_env")], "the configuration file")
    if resolved.removed:
        outcomes.also("unset_env", resolved.removed, "the configuration file")
    _module_directories(resolved, outcomes)
    if resolved.server_field is not None:
        outcomes.also("server_header", resolved.server_field, "the configuration file")
    if resolved.script_name.startswith("/"):
        outcomes.also("path", resolved.script_name, "SCRIPT_NAME")
    elif resolved.script_name:
        outcomes.refusals.append(
            f"the environment variable SCRIPT_NAME is {resolved.script_name!r}, but the path under which the application is "
            'begins with "/": unset the variable, or correct it'
        )
    outcomes.also("max_body", 0, DEFAULT)
    # gunicorn takes only the scheme and these fields from a proxy: REMOTE_ADDR stays the address of the proxy.
    outcomes.also("forwarded", ["proto"], DEFAULT)


def _module_directories(resolved: Resolved, outcomes: Outcomes) -> None:
    """`include`: pythonpath, and what the configuration file has added to sys.path.

    With chdir, also its directory, then that of the start: gunicorn finds modules in both. Called in the directory of
    the start.
    """
    start, chdir = os.getcwd(), resolved.value("chdir")
    directory = os.path.abspath(str(chdir)) if chdir else start
    more = resolved.paths if directory == start else [*resolved.paths, directory, start]
    given = outcomes.given.get("include")
    if given is not None:
        assert isinstance(given.value, list)
        outcomes.also("include", [*given.value, *more], given.source)
    elif more:
        outcomes.also("include", more, "the configuration file" if resolved.paths else resolved.values["chdir"].source)
