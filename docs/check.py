"""Checks the documentation against the code: `python docs/check.py`. Prints one line a problem, and exits with status
1 then.

In the pages of the top folder and of docs/: relative links and their anchors resolve; every option that is named
exists, every setting is on the settings page; every test and make target that is named exists, and every promise of
the security page names a test; commands parse, TOML holds settings, Python compiles; lines of prose are short. In the
pages, and in the docstrings and comments of the code: words that speak of code as of people stay below a limit. Loads
and runs no application.
"""

from __future__ import annotations

import ast
import io
import re
import shlex
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from starman.commands.command_line import command_flags  # noqa: E402 - the checkout's own starman, installed or not
from starman.config.option import OPTIONS  # noqa: E402
from starman.config.sources import flags, from_arguments, from_command_line  # noqa: E402
from starman.errors import SettingError  # noqa: E402
from starman.gunicorn.command_line import parse_arguments  # noqa: E402

SETTINGS_PAGE = ROOT / "docs" / "settings.md"
ARCHITECTURE_PAGE = ROOT / "docs" / "architecture.md"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`]+)`")
# A test module, or a test in it: tests/unit/test_cli.py::test_help.
TEST = re.compile(r"(?P<module>tests/[\w/]+\.py)(?:::(?P<name>\w+))?")
# A folder of the package, or a module in one: serving/, serving/exchange.py.
MODULE = re.compile(r"(?:starman/)?((?:config|gunicorn|log|process|proto|serving|wsgi)/(?:\w+/)*(?:\w+\.py)?)")
# The tables of modules on the architecture page: the title of a folder, and the row of a module.
FOLDER_TITLE = re.compile(r"\*\*`(starman/[\w/]*)`\*\*")
MODULE_ROW = re.compile(r"\| `(\w+\.py)` \|")
PROMISES = "| Promise | Held by |"
HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-])")
# Beginnings of code spans with options of starman. Others have options of curl, pip, make, …
OURS = ("-", "starman-uv", "python -m starman")
COMMAND = re.compile(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:starman-uv|python -m starman)(?P<arguments>(?: .*)?)")

MAKE = re.compile(r"(?:[A-Z_]+=\S+ )*make ([a-z][a-z-]*)(?![\w-])")

# A line of prose is shorter than this (columns). Tables and fenced blocks may be wider.
WIDTH = 120
# Between two such lines, a page is written by a tool of the bench.
GENERATED = re.compile(r"<!-- (/?)\w+ -->")

# Words that speak of code as of people, and how often they may occur in 1,000 words.
PEOPLE = re.compile(r"\b(?:who|whoever|whom|whose|somebody|nobody|anybody|everybody|someone|anyone|everyone)\b", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z][\w'-]*")
CODE = ("starman", "tests", "bench", "docs")
LIMITS = {"docstrings and comments": 0.5, "pages": 0.5}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language ("" without one), its text, and the line of the file where its text begins."""

    language: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page, split into prose (with empty lines where blocks were) and fenced blocks."""

    path: Path
    prose: str
    blocks: tuple[Block, ...]


def main() -> int:
    """Check every page; the exit status."""
    pages = [read_page(path) for path in page_paths()]
    problems = [*missing_settings(), *unlisted_modules()]
    for page in pages:
        for check in (
            broken_links,
            unknown_options,
            unknown_tests,
            unknown_targets,
            unknown_modules,
            promises_without_tests,
            broken_blocks,
            long_lines,
        ):
            problems += [f"{page.path.relative_to(ROOT)}:{problem}" for problem in check(page)]
    figures = {"docstrings and comments": people_in_code(), "pages": people_in_pages(pages)}
    problems += too_many_people(figures, LIMITS)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"documentation: {len(pages)} pages hold")
    for name, figure in figures.items():
        print(f"{name}: {figure:.2f} of 1,000 words speak of code as of people (limit {LIMITS[name]})")
    return 1 if problems else 0


def page_paths() -> list[Path]:
    """The pages to check."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@cache
def read_page(path: Path) -> Page:
    """Split a file into prose and blocks."""
    prose: list[str] = []
    blocks: list[Block] = []
    language: str | None = None
    lines: list[str] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.startswith("```"):
            if language is None:
                language, lines = line[3:].strip(), []
            else:
                blocks.append(Block(language, "\n".join(lines), number - len(lines)))
                language = None
            prose.append("")
        elif language is None:
            prose.append(line)
        else:
            lines.append(line)
            prose.append("")
    return Page(path, "\n".join(prose), tuple(blocks))


def numbered(page: Page) -> Iterator[tuple[int, str]]:
    """The lines of a page's prose, with their numbers."""
    yield from enumerate(page.prose.splitlines(), 1)


def broken_links(page: Page) -> Iterator[str]:
    """Relative links to a file or heading that does not exist."""
    for number, line in numbered(page):
        for target in LINK.findall(CODE_SPAN.sub("", line)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (page.path.parent / name).resolve() if name else page.path
            if not path.exists():
                yield f"{number}: {target} does not exist"
            elif anchor and path.suffix == ".md" and anchor not in anchors(path):
                yield f"{number}: {path.name} has no heading for #{anchor}"


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as the usual forges make them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(read_page(path).prose))
    return {heading.replace(" ", "-") for heading in plain}


def unknown_options(page: Page) -> Iterator[str]:
    """Options in code spans that the command line does not have."""
    known = set(flags()) | set(command_flags())
    for number, line in numbered(page):
        for span in CODE_SPAN.findall(line):
            if span.startswith(OURS):
                for option in OPTION.findall(span):
                    if option not in known:
                        yield f"{number}: starman-uv has no {option}"


def unknown_tests(page: Page) -> Iterator[str]:
    """Tests in code spans that do not exist."""
    for number, line in numbered(page):
        for span in CODE_SPAN.findall(line):
            if (found := TEST.fullmatch(span)) is None:
                continue
            path = ROOT / found["module"]
            if not path.exists():
                yield f"{number}: {found['module']} does not exist"
            elif found["name"] is not None and found["name"] not in functions(path):
                yield f"{number}: {found['module']} has no {found['name']}"


def unknown_targets(page: Page) -> Iterator[str]:
    """Targets of make, in code spans and in commands, that the Makefile does not have."""
    spans = [(number, span) for number, line in numbered(page) for span in CODE_SPAN.findall(line)]
    spans += [(block.line + offset, line) for block in page.blocks for offset, line in enumerate(block.text.splitlines())]
    for number, text in spans:
        if (found := MAKE.match(text)) and found[1] not in make_targets():
            yield f"{number}: make has no target {found[1]}"


@cache
def make_targets() -> frozenset[str]:
    """The targets that the Makefile declares as commands."""
    (declared,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    return frozenset(declared.split())


def unknown_modules(page: Page) -> Iterator[str]:
    """Folders and modules of the package in code spans that do not exist."""
    for number, line in numbered(page):
        for span in CODE_SPAN.findall(line):
            if (found := MODULE.fullmatch(span)) and not (ROOT / "starman" / found[1]).exists():
                yield f"{number}: starman/{found[1]} does not exist"


@cache
def functions(path: Path) -> frozenset[str]:
    """The names of the functions of a module."""
    return frozenset(node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef))


def promises_without_tests(page: Page) -> Iterator[str]:
    """Rows of tables of promises that name no test."""
    within = False
    for number, line in numbered(page):
        within = line == PROMISES or (within and line.startswith("|"))
        if within and line not in (PROMISES, "|---|---|"):
            held_by = line.rstrip("| ").rpartition("|")[2]
            if not any(TEST.fullmatch(span) for span in CODE_SPAN.findall(held_by)):
                yield f"{number}: no test holds this promise"


def missing_settings() -> Iterator[str]:
    """Settings that the settings page leaves out."""
    text = SETTINGS_PAGE.read_text("utf-8") if SETTINGS_PAGE.exists() else ""
    for name, setting in OPTIONS.items():
        for part in (f"### {name}\n", f"`{setting.variable}`"):
            if part not in text:
                yield f"docs/settings.md: {name} is missing; `make docs` writes the page"
                break


def unlisted_modules() -> Iterator[str]:
    """Modules of the package that the tables of the architecture page leave out, and those that no longer exist."""
    listed: set[str] = set()
    folder = ""
    for line in ARCHITECTURE_PAGE.read_text("utf-8").splitlines():
        if title := FOLDER_TITLE.match(line):
            folder = title[1]
        elif folder and (row := MODULE_ROW.match(line)):
            listed.add(folder + row[1])
    modules = {path for path in (ROOT / "starman").rglob("*.py") if path.stat().st_size}
    for name in sorted(listed ^ {str(path.relative_to(ROOT)) for path in modules}):
        yield f"docs/architecture.md: the table of modules is not up to date ({name}); `make docs` writes it"


def broken_blocks(page: Page) -> Iterator[str]:
    """Wrong commands, TOML or Python in fenced blocks."""
    for block in page.blocks:
        if block.language in ("sh", "shell", "bash", "console"):
            for offset, line in enumerate(block.text.splitlines()):
                if found := COMMAND.match(line.strip()):
                    yield from (f"{block.line + offset}: {problem}" for problem in wrong_command(found["arguments"]))
        elif block.language == "toml":
            yield from (f"{block.line}: {problem}" for problem in wrong_toml(block.text))
        elif block.language == "python":
            try:
                ast.parse(block.text)
            except SyntaxError as error:
                yield f"{block.line + (error.lineno or 1) - 1}: {error.msg}"


def wrong_command(arguments: str) -> Iterator[str]:
    """The reasons for which starman-uv refuses these arguments."""
    words = shlex.split(re.sub(r" > \S+$", "", arguments), comments=True)
    try:
        if words[:1] == ["gunicorn"]:
            parse_arguments(words[1:])
        else:
            from_command_line(from_arguments(words), {}, "/")
    except (SettingError, ValueError) as error:
        yield str(error)


def wrong_toml(text: str) -> Iterator[str]:
    """The reasons for which starman-uv refuses a settings file of this text."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        yield str(error)
        return
    table = document.get("tool", {}).get("starman", document)
    for key, value in table.items():
        setting = OPTIONS.get(key.replace("-", "_"))
        if setting is None:
            yield f"there is no setting {key}"
            continue
        try:
            setting.parse(value, key)
        except SettingError as error:
            yield str(error)


def long_lines(page: Page) -> Iterator[str]:
    """Lines of prose that are too wide. Tables may be, parts that a tool writes, and a line that has no space to break
    at."""
    generated = False
    for number, line in numbered(page):
        if marker := GENERATED.fullmatch(line):
            generated = not marker[1]
        if len(line) >= WIDTH and not generated and not line.startswith(("|", "<!--")) and " " in line.strip("- "):
            yield f"{number}: {len(line)} columns; prose is narrower than {WIDTH}"


def people_per_thousand(texts: Iterable[str]) -> float:
    """How many of 1,000 words speak of code as of people."""
    words = people = 0
    for text in texts:
        words += len(WORD.findall(text))
        people += len(PEOPLE.findall(text))
    return 1000 * people / words if words else 0.0


def people_in_code() -> float:
    """The figure of the docstrings and comments of all Python files."""
    paths = [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]
    return people_per_thousand(text for path in paths for text in explanations(path.read_text("utf-8")))


def people_in_pages(pages: Iterable[Page]) -> float:
    """The figure of the prose of the pages, code spans left out."""
    return people_per_thousand(CODE_SPAN.sub("", page.prose) for page in pages)


def explanations(source: str) -> Iterator[str]:
    """The comments and docstrings of a module."""
    yield from (
        token.string for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT
    )
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def too_many_people(figures: dict[str, float], limits: dict[str, float]) -> Iterator[str]:
    """Figures that are above their limits."""
    for name, figure in figures.items():
        if figure > limits[name]:
            yield f"{name}: {figure:.2f} of 1,000 words speak of code as of people (limit {limits[name]})"


if __name__ == "__main__":
    sys.exit(main())
