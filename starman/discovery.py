"""Finds the application of a directory when none is named: app.py, wsgi.py, or a Django project's WSGI module.

It only reads files. The master may call it (for a process title), so it must not import anything large.
"""

from __future__ import annotations

import os

from starman.errors import LoadError

FILE_NAMES = ("app.py", "wsgi.py")
SETTINGS_VARIABLE = "DJANGO_SETTINGS_MODULE"


def find_application(directory: str) -> str:
    """The text of the `app` setting that serves `directory`. Raises LoadError, which names the files that were looked
    for."""
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
    """The packages with a `wsgi` module: the one of the settings named in manage.py, else all that also have
    settings."""
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
    """The value of DJANGO_SETTINGS_MODULE in manage.py; "" if there is none."""
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
