"""Finds the application of a directory when none is named: app.py, wsgi.py, or a Django project's WSGI module.

Looks at files, imports nothing. The master may call it (for a title), so it imports nothing large.
"""

from __future__ import annotations

import os

from starman.errors import LoadError

FILE_NAMES = ("app.py", "wsgi.py")
SETTINGS_VARIABLE = "DJANGO_SETTINGS_MODULE"


def find_application(directory: str) -> str:
    """The text of the `app` setting that serves `directory`. Raises LoadError, which says what was looked for."""
    for name in FILE_NAMES:
        if os.path.isfile(os.path.join(directory, name)):
            return name
    packages = _django_packages(directory)
    if len(packages) == 1:
        return f"{packages[0]}.wsgi"
    if packages:
        raise LoadError(f"no application given, and {directory} has several: {', '.join(f'{name}.wsgi' for name in packages)}")
    raise LoadError(
        f"no application given, and none found in {directory}: looked for {', '.join(FILE_NAMES)}"
        " and a Django project (manage.py, or */wsgi.py beside */settings.py)"
    )


def _django_packages(directory: str) -> list[str]:
    """The packages with a `wsgi` module: the one whose settings manage.py names, else all that have settings too."""
    named = _settings_module(os.path.join(directory, "manage.py"))
    parts = named.split(".")[:-1]  # project.settings, or project.settings.production: the nearest wsgi.py counts
    while parts:
        if os.path.isfile(os.path.join(directory, *parts, "wsgi.py")):
            return [".".join(parts)]
        parts.pop()
    found = []
    for name in sorted(os.listdir(directory)):
        package = os.path.join(directory, name)
        settings = os.path.join(package, "settings")
        configured = os.path.isfile(settings + ".py") or os.path.isdir(settings)
        if configured and name.isidentifier() and os.path.isfile(os.path.join(package, "wsgi.py")):
            found.append(name)
    return found


def _settings_module(path: str) -> str:
    """What manage.py sets DJANGO_SETTINGS_MODULE to; "" if there is no such file, or no such line."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return ""
    _, _, rest = text.partition(SETTINGS_VARIABLE)
    # os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings"), and os.environ["…"] = "…": the next literal.
    rest = rest.partition("\n")[0].lstrip("\"']), =\t")
    module = rest.replace("'", '"').partition('"')[0].strip()
    return module if all(part.isidentifier() for part in module.split(".")) else ""
