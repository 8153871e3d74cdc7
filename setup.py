"""Compiles the modules of the hot path by mypyc while a wheel is built, if there is a C compiler.

The variable COMPILE_STARMAN chooses: with 1, a missing or failing compiler is an error. With 0, starman is plain
Python, and no compiler is needed. Without the variable, modules that cannot be compiled stay plain Python, and the
build says so.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile

from setuptools import setup

# See docs/decisions/compiled.md: what every request runs through, as far as figures say that it matters.
MODULES = (
    "starman/proto/chunked.py",
    "starman/proto/events.py",
    "starman/proto/fields.py",
    "starman/proto/heads.py",
    "starman/proto/request.py",
    "starman/proto/response.py",
    "starman/proto/syntax.py",
    "starman/serving/body/streaming_exchange.py",
    "starman/serving/connections/closing.py",
    "starman/serving/connections/connection.py",
    "starman/serving/connections/progress.py",
    "starman/serving/connections/timeouts.py",
    "starman/serving/context.py",
    "starman/serving/dates.py",
    "starman/serving/exchange.py",
    "starman/serving/exchange_body.py",
    "starman/serving/executors/executor.py",
    "starman/serving/executors/inline.py",
    "starman/serving/executors/lost_threads.py",
    "starman/serving/executors/pool.py",
    "starman/serving/executors/pool_thread.py",
    "starman/serving/executors/queued_request.py",
    "starman/serving/executors/schedule.py",
    "starman/serving/executors/shedding.py",
    "starman/serving/metrics/request_counts.py",
    "starman/serving/request_hooks.py",
    "starman/serving/response_sender.py",
    "starman/serving/sending/corking.py",
    "starman/serving/sending/expiry.py",
    "starman/serving/sending/thread_socket.py",
    "starman/serving/sending/writer.py",
    "starman/serving/sending/writer_state.py",
    "starman/wsgi/call.py",
    "starman/wsgi/environ.py",
    "starman/wsgi/output.py",
    "starman/wsgi/response_state.py",
    "starman/wsgi/resumable_call.py",
)
COMPILER = ["mypy>=2.4"]


def requested_build() -> str:
    """The value of COMPILE_STARMAN: "1", "0", or "" if it is not set."""
    value = os.environ.get("COMPILE_STARMAN", "")
    if value not in ("", "0", "1"):
        sys.exit(f"COMPILE_STARMAN must be 1, for a compiled starman, or 0, for plain Python, not {value!r}")
    return value


def compiler() -> str:
    """The C compiler that setuptools will run."""
    return (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]


def build_compiled() -> None:
    """Build the wheel, with every file outside of the sources: an extension there would hide its source module."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        sys.exit("on a free-threaded Python, starman is plain Python: mypyc's attributes are not safe without the GIL")
    if shutil.which(compiler()) is None:
        sys.exit(f"a C compiler is needed, and there is no {compiler()} (Debian: apt install gcc libc6-dev)")

    from mypyc.build import mypycify

    with tempfile.TemporaryDirectory(prefix="starman-build-") as scratch:
        # Less strict than `make lint`: a type package that is missing or newer here, or what mypy says of the library
        # of a newer Python, must not prevent a build. Errors count only in what is compiled.
        lenient = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
        flags = [*lenient, f"--cache-dir={scratch}/mypy"]
        extensions = mypycify([*flags, *MODULES], group_name="starman", target_dir=scratch)
        for extension in extensions:
            extension.extra_compile_args = [*extension.extra_compile_args, "-Wno-error"]
        setup(ext_modules=extensions, options={"build": {"build_base": scratch}})


def build_compiled_if_possible() -> None:
    """Build the wheel, compiled if that works, else of plain Python."""
    try:
        build_compiled()
    except (Exception, SystemExit) as error:
        print(f"starman is not compiled but plain Python: {error}", file=sys.stderr)
        setup()


requested = requested_build()
if requested == "0":
    setup()
elif "bdist_wheel" in sys.argv:
    (build_compiled if requested else build_compiled_if_possible)()
elif "editable_wheel" in sys.argv:
    if requested:
        sys.exit("COMPILE_STARMAN=1 is for wheels: an editable installation is plain Python")
    setup()
else:
    # The build frontend asks what the build requires.
    setup(setup_requires=COMPILER if requested or shutil.which(compiler()) else [])
