"""starman.log.tracebacks: exceptions as text, whatever they are like."""

from __future__ import annotations

import gc
import weakref
from typing import NoReturn

import pytest

from starman import log
from starman.log.tracebacks import class_name, exception_line, format_exception, free_frames_of, safe_text


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit


class Text(str):
    def splitlines(self, keepends: bool = False) -> NoReturn:
        raise OSError


class OddTextError(Exception):
    def __str__(self) -> str:
        return Text("two\nlines")


class EndlessError(Exception):
    @property
    def __cause__(self) -> EndlessError:
        return EndlessError()


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\nlines"), "ValueError: two"),
        (ValueError(), "ValueError"),
        (UnprintableError(), f"UnprintableError: <{__name__}.UnprintableError>"),
        (OddTextError(), "OddTextError: two"),
    ],
)
def test_an_exception_in_a_line(error: BaseException, line: str) -> None:
    assert exception_line(error) == line


def test_what_is_shown_is_plain() -> None:
    assert type(safe_text(Text("x"))) is str
    assert safe_text(UnprintableError()) == f"<{__name__}.UnprintableError>"
    assert (class_name(1), class_name(Text())) == ("int", f"{__name__}.Text")


HARD = [SyntaxError("x", ("f", 1, "a", "text")), UnprintableError(), OddTextError(), EndlessError()]


@pytest.mark.parametrize("error", [*HARD, ExceptionGroup("g", [OddTextError()])])
def test_a_traceback_has_the_stack_and_the_class(error: BaseException) -> None:
    text = format_exception(raised(error))
    assert "in raised" in text
    assert type(error).__name__ in text


def test_an_ordinary_traceback_is_that_of_python() -> None:
    def fail() -> NoReturn:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None

    with pytest.raises(ValueError, match="second") as caught:
        fail()
    assert format_exception(caught.value).splitlines()[-1] == "ValueError: second"
    assert "KeyError" not in format_exception(caught.value)
    assert format_exception(caught.value, lambda frames: None) == "ValueError: second\n"


def test_a_want_of_memory_frees_what_the_frames_hold() -> None:
    class Large:
        pass

    kept: list[weakref.ref[Large]] = []

    def fail(error: type[BaseException]) -> None:
        large = Large()
        kept.append(weakref.ref(large))
        raise error

    for error, freed in ((MemoryError, True), (ValueError, False)):
        with pytest.raises(error) as caught:
            fail(error)
        free_frames_of(caught.value)
        gc.collect()
        assert (kept[-1]() is None) is freed
        assert "in fail" in format_exception(caught.value)


def test_a_want_of_memory_while_another_is_handled_frees_what_either_holds() -> None:
    """As where a `finally` clause has no memory, either."""

    class Large:
        pass

    kept: list[weakref.ref[Large]] = []

    def fail() -> None:
        large = Large()
        kept.append(weakref.ref(large))
        raise MemoryError

    def clear_up() -> None:
        try:
            fail()
        finally:
            fail()

    with pytest.raises(MemoryError) as caught:
        clear_up()
    free_frames_of(caught.value)
    gc.collect()
    assert [large() for large in kept] == [None, None]


@pytest.mark.parametrize("raising", [AttributeError, SystemExit, KeyboardInterrupt, MemoryError])
def test_a_line_is_logged_whatever_stands_for_standard_error(
    raising: type[BaseException], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Stream:
        def flush(self) -> None:
            raise raising

    for stream in (Stream(), object(), None):
        monkeypatch.setattr("sys.stderr", stream)
        log.error("a line")
        assert "[ERROR] a line\n" in capfd.readouterr().err
