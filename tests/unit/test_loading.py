"""From a text to the application; and what is said when there is none, or when it breaks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from starman.config.settings import Settings
from starman.errors import LoadError
from starman.loading import application_traceback, describe, load_application

APP = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'app']\n"
FACTORY = """\
def make(*arguments, **keywords):
    def made(environ, start_response):
        return [repr((arguments, keywords)).encode()]
    return made

class Holder:
    inner = staticmethod(make('held'))

def broken():
    raise ValueError("no database")

holder = Holder()
number = 3
made = make()
"""

Write = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """A directory to write modules in; it is the working directory. Imports and sys.path are put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    modules = set(sys.modules)

    def write(path: str, text: str = APP) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    yield write
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def call(application: Any, path: str = "/") -> bytes:
    return b"".join(application({"PATH_INFO": path, "SCRIPT_NAME": ""}, lambda status, headers: None))


def load(app: str | None = None, **given: object) -> Any:
    return load_application(Settings.of(app=app, **given) if app is not None else Settings.of(**given))


def failure(app: str | None = None, **given: object) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load(app, **given)
    assert "\n" not in str(caught.value)
    return caught.value


# What can be loaded


def test_module_and_name(project: Write) -> None:
    project("one.py", APP.replace("def app", "def other"))
    assert call(load("one:other")) == b"app"


def test_a_module_alone_tries_app_then_application(project: Write) -> None:
    project("one.py", "application = None\n" + APP)
    project("two.py", APP.replace("def app", "def application"))
    assert call(load("one")) == b"app"
    assert call(load("two")) == b"app"


def test_package_and_attributes(project: Write) -> None:
    project("pack/__init__.py", "")
    project("pack/inner.py", FACTORY)
    assert call(load("pack.inner:holder.inner")) == b"(('held',), {})"


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ("", "((), {})"),
        ("'x:y', 2", "(('x:y', 2), {})"),
        ("config='a/b.py', debug=True", "((), {'config': 'a/b.py', 'debug': True})"),
        ("[1, (2,)], a={'b': None}, c=-1", "(([1, (2,)],), {'a': {'b': None}, 'c': -1})"),
    ],
)
def test_factories_with_literal_arguments(project: Write, arguments: str, seen: str) -> None:
    project("pack/__init__.py", "")
    project("pack/inner.py", FACTORY)
    assert call(load(f"pack.inner:make({arguments})")) == seen.encode()


@pytest.mark.parametrize("app", ["dir/file.py", "dir/file", "dir/file.py:app", "./dir/file.py"])
def test_a_file(project: Write, app: str) -> None:
    project("dir/file.py", "import sibling\nNAME = __name__\n" + APP)
    project("dir/sibling.py", "")
    assert call(load(app)) == b"app"
    assert sys.modules["file"].NAME == "file"
    assert sys.path[0] == os.path.abspath("dir")


def test_a_file_that_is_imported_already_is_not_run_again(project: Write) -> None:
    file = project("once.py")
    assert load("once") is load(str(file))


def test_a_file_without_the_usual_suffix(project: Write) -> None:
    project("my-site.wsgi")
    assert call(load("my-site.wsgi")) == b"app"


def test_a_file_with_a_factory(project: Write) -> None:
    project("dir/file.py", FACTORY)
    assert call(load("dir/file.py:make(path='a/b:c')")) == b"((), {'path': 'a/b:c'})"


def test_the_working_directory_and_include_are_on_the_path(project: Write, tmp_path: Path) -> None:
    project("lib/one.py")
    project("more/two.py", "import one\nfrom one import app\n")
    assert call(load("two", include=["lib", "more"])) == b"app"
    assert sys.path[:3] == [str(tmp_path / "lib"), str(tmp_path / "more"), str(tmp_path)]
    before = list(sys.path)
    load("two", include=["lib", "more"])
    assert sys.path == before


def test_an_expression(project: Write) -> None:
    assert call(load(eval="lambda environ, start_response: [b'inline']")) == b"inline"
    assert call(load(eval="(\n  lambda e, s:\n    [b'lines']\n)")) == b"lines"


def test_an_expression_sees_the_modules(project: Write) -> None:
    project("pack/__init__.py", "")
    project("pack/inner.py", FACTORY)
    assert call(load(eval="pack.inner.make(json.dumps(1))", modules=["json", "pack.inner"])) == b"(('1',), {})"


def test_modules_are_imported_first(project: Write) -> None:
    project("first.py", "import builtins\nbuiltins.first_ran = True\n")
    project("one.py", "import builtins\nassert builtins.first_ran\n" + APP)
    assert call(load("one", modules=["first"])) == b"app"


def test_without_a_name_app_py_is_found(project: Write) -> None:
    project("app.py")
    assert call(load()) == b"app"


def test_without_a_name_the_django_project_is_found(project: Write) -> None:
    project("manage.py", 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n')
    project("shop/__init__.py", "")
    project("shop/settings.py", "")
    project("shop/wsgi.py", APP.replace("def app", "def application"))
    assert call(load()) == b"app"


def test_the_path_mounts(project: Write) -> None:
    project("one.py", "def app(environ, start_response):\n    return [environ['SCRIPT_NAME'].encode()]\n")
    application = load("one", path="/shop/")
    assert call(application, "/shop/x") == b"/shop"
    assert call(application, "/other") == b"Not Found\n"


# What cannot


def test_a_module_that_is_not_there_says_where_it_was_looked_for(project: Write, tmp_path: Path) -> None:
    project("lib/x.py")
    error = failure("missing:app", include=["lib"])
    installed = next(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
    looked_in = f"{tmp_path}/lib, {tmp_path}, {installed}, "
    assert str(error).startswith(f"cannot load 'missing:app': No module named 'missing'; looked in {looked_in}")
    assert "more of sys.path" in str(error)
    assert error.details == ""


def test_python_s_own_directories_are_named_last(project: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = os.path.dirname(os.__file__)
    monkeypatch.setattr(sys, "path", ["/usr/lib/python3.zip", library, f"{library}/lib-dynload", "/venv/site-packages"])
    assert str(failure("missing:app")).endswith(
        f"looked in {tmp_path}, /venv/site-packages, /usr/lib/python3.zip, {library}, and 1 more of sys.path"
    )


@pytest.mark.parametrize(
    ("app", "missing"), [("pack.missing:app", "pack.missing"), ("nowhere.inner:app", "nowhere"), ("one.inner", "one.inner")]
)
def test_a_package_or_part_that_is_not_there(project: Write, app: str, missing: str) -> None:
    project("pack/__init__.py", "")
    project("one.py")
    error = failure(app)
    assert f"No module named {missing!r}" in str(error)
    assert error.details == ""


def test_an_import_error_inside_the_application_is_the_applications(project: Write, tmp_path: Path) -> None:
    project("one.py", "def load():\n    import not_installed\nload()\n")
    error = failure("one:app")
    assert str(error) == "cannot load 'one:app': ModuleNotFoundError: No module named 'not_installed'"
    assert f'File "{tmp_path}/one.py", line 2, in load' in error.details
    assert "importlib" not in error.details
    assert os.path.join("starman", "loading.py") not in error.details
    assert error.details.endswith("ModuleNotFoundError: No module named 'not_installed'")


def test_a_module_that_imports_its_own_missing_part_is_the_applications_error(project: Write) -> None:
    project("pack/__init__.py", "import pack.inner\n")
    error = failure("pack.inner:app")
    assert "ModuleNotFoundError: No module named 'pack.inner'" in str(error)
    assert "pack/__init__.py" in error.details


def test_a_file_that_is_not_there(project: Write, tmp_path: Path) -> None:
    assert str(failure("dir/none.py:app")) == f"cannot load 'dir/none.py:app': no such file: {tmp_path}/dir/none.py"
    assert f"{tmp_path}/dir/none or {tmp_path}/dir/none.py" in str(failure("dir/none"))


def test_a_file_whose_module_name_is_taken(project: Write) -> None:
    project("json.py")
    assert "another module 'json'" in str(failure("json.py"))
    assert "is already imported; rename the file" in str(failure("json.py"))


def test_an_attribute_that_is_not_there_suggests_the_nearest(project: Write, tmp_path: Path) -> None:
    project("one.py")
    assert str(failure("one:apq")) == f"cannot load 'one:apq': one ({tmp_path}/one.py) has no 'apq'; did you mean 'app'?"
    project("two.py", FACTORY)
    assert "Holder has no 'iner'; did you mean 'inner'?" in str(failure("two:holder.iner"))


def test_a_module_without_the_usual_names_suggests_the_nearest(project: Write, tmp_path: Path) -> None:
    project("one.py", APP.replace("def app", "def my_app"))
    message = f"cannot load 'one': one ({tmp_path}/one.py) has neither 'app' nor 'application'; did you mean 'my_app'?"
    assert str(failure("one")) == message
    project("two.py", "")
    assert str(failure("two")).endswith("has neither 'app' nor 'application'")


@pytest.mark.parametrize("app", ["two:number", "two:make()()", "two:", "two:made"])
def test_what_is_not_callable_or_not_understood(project: Write, app: str) -> None:
    project("two.py", FACTORY)
    if app == "two:made":
        assert call(load(app)) == b"((), {})"
    elif app == "two:number":
        assert str(failure(app)) == "cannot load 'two:number': it is an int, not a WSGI application, which is a callable"
    else:
        assert str(failure(app))


@pytest.mark.parametrize(
    "app",
    [
        "two:make(x)",
        "two:make(*[1])",
        "two:make(**{'a': 1})",
        "two:make(1",
        "two:a b",
        "two:1",
        "two:make()()",
        "two:[0]",
        "two:lambda: 0",
    ],
)
def test_only_literals_may_be_arguments(project: Write, app: str) -> None:
    project("two.py", FACTORY)
    assert "write a name, or a call with literal arguments, after the colon" in str(failure(app))


@pytest.mark.parametrize("app", ["two:", "two: ", "two.py:"])
def test_nothing_after_the_colon(project: Write, app: str) -> None:
    project("two.py", "def app(environ, start_response): return []\n")
    assert "write a name, or a call with literal arguments, after the colon" in str(failure(app))


@pytest.mark.parametrize("app", [":app", "a-b:app", "1x", "a..b", "a b"])
def test_what_is_no_module(project: Write, app: str) -> None:
    assert "write module:app, module, module:factory(), or the path of a file" in str(failure(app))


def test_a_factory_that_cannot_be_called(project: Write) -> None:
    project("two.py", FACTORY)
    assert "number is an int, which cannot be called" in str(failure("two:number()"))


def test_a_factory_called_with_the_wrong_arguments_is_one_line(project: Write) -> None:
    project("shop.py", "def make(name): return lambda environ, start_response: []\n")
    error = failure("shop:make()")
    assert "missing 1 required positional argument: 'name'" in str(error)
    assert error.details == ""


def test_a_factory_that_fails_shows_its_traceback(project: Write) -> None:
    project("two.py", FACTORY)
    error = failure("two:broken()")
    assert str(error) == "cannot load 'two:broken()': ValueError: no database"
    assert "in broken" in error.details
    assert "loading.py" not in error.details


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import sys; sys.exit()", "SystemExit: without a message"),
        ("raise GeneratorExit", "GeneratorExit: without a message"),
        ("raise ValueError('one\\ntwo')", "ValueError: one"),
        ("def f(:", "SyntaxError: "),
        ("raise ExceptionGroup('many', [ValueError(1)])", "ExceptionGroup: many"),
    ],
)
def test_whatever_the_module_raises_is_a_load_error(project: Write, statement: str, words: str) -> None:
    project("one.py", f"{statement}\n")
    for app in ("one:app", "./one.py"):
        error = failure(app)
        assert str(error).startswith(f"cannot load {app!r}: {words}")
        assert "one.py" in error.details
        assert error.exit_status == 1
        assert "one" not in sys.modules


def test_ctrl_c_stays_what_it_is(project: Write) -> None:
    project("one.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load("one")


def test_a_module_of_modules_that_fails(project: Write) -> None:
    project("first.py", "1 / 0\n")
    assert str(failure("x:y", modules=["first"])) == "cannot load module 'first' (--modules): ZeroDivisionError: division by zero"
    assert "cannot load module 'none_such' (--modules): No module named" in str(failure("x:y", modules=["none_such"]))


@pytest.mark.parametrize(
    ("expression", "words"), [("1 +", "SyntaxError"), ("undefined", "NameError: name 'undefined'"), ("3", "it is an int")]
)
def test_an_expression_that_is_none(project: Write, expression: str, words: str) -> None:
    assert str(failure(eval=expression)).startswith(f"cannot load the application of --eval: {words}")


@pytest.mark.parametrize(
    "text",
    [
        "async def app(scope, receive, send):\n    pass\n",
        "class App:\n    async def __call__(self, scope, receive, send):\n        pass\napp = App()\n",
    ],
)
def test_an_asgi_application_is_refused_by_name(project: Write, text: str) -> None:
    project("one.py", text)
    assert str(failure("one")) == "cannot load 'one': it is an ASGI application; starman serves WSGI"


def test_a_module_whose_getattr_breaks(project: Write) -> None:
    project(
        "one.py",
        "def __getattr__(name):\n"
        "    if name.startswith('__'):\n        raise AttributeError(name)\n"
        "    raise RuntimeError(name)\n",
    )
    assert "RuntimeError: app" in str(failure("one"))
    assert "RuntimeError: other" in str(failure("one:other"))


def test_nothing_to_load(project: Write, tmp_path: Path) -> None:
    assert f"none found in {tmp_path}" in str(failure())


# Words about it


def test_the_traceback_keeps_causes(project: Write) -> None:
    project(
        "one.py",
        "def make():\n    try:\n        1 / 0\n"
        "    except ZeroDivisionError as error:\n        raise ValueError('outer') from error\n",
    )
    details = failure("one:make()").details
    assert "ZeroDivisionError" in details
    assert "direct cause" in details
    assert details.count("Traceback") == 2


def test_the_traceback_of_an_error_that_causes_itself() -> None:
    error = ValueError("loop")
    error.__context__ = ValueError("inner")
    error.__context__.__context__ = error
    assert "ValueError: loop" in application_traceback(error)


def test_descriptions(project: Write) -> None:
    assert describe(Settings.of(app="a:b")) == "a:b"
    assert describe(Settings.of(eval="lambda e,\n   s: 1")) == "-e lambda e, s: 1"
    assert len(describe(Settings.of(eval="x" * 500))) < 70
    assert describe(Settings.of()) == "no application"
    project("app.py")
    assert describe(Settings.of()) == "app.py"


class Instance:
    def __call__(self, environ: object, start_response: object) -> list[bytes]:
        return []


class Unbound(Instance):
    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"working outside of context: {name}")


def test_descriptions_of_a_callable() -> None:
    assert describe(Settings.of(), Unbound()) == f"{__name__}.Unbound"
    assert describe(Settings.of(), call) == f"{__name__}:call"
    assert describe(Settings.of(), Instance()) == f"{__name__}:Instance"
