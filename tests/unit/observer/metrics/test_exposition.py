"""starman.observer.metrics.exposition: both formats are read again, by a parser and by promtool."""

from __future__ import annotations

import math
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.observer.metrics.exposition import OPENMETRICS, TEXT, choose_format, encode, number
from starman.observer.metrics.metric_table import Metric
from starman.observer.metrics.samples import Family, Sample, make_families
from tests.functional.support.tools import find_tool
from tests.unit.observer.metrics.observed import observed

_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_SAMPLE = re.compile(r"([a-z_:]+)(?:\{(.*)\})? (\S+)")


def parse(text: str) -> list[tuple[str, dict[str, str], float]]:
    """The samples of a text in one of the formats."""
    found = []
    for line in text.split("\n"):
        if not line or line.startswith("# "):
            continue
        match = _SAMPLE.fullmatch(line)
        assert match is not None, line
        name, inside, value = match.groups()
        labels = _LABEL.findall(inside or "")
        assert "".join(f'{key}="{raw}",' for key, raw in labels).rstrip(",") == (inside or "")
        plain = {key: re.sub(r'\\(["\\n])', lambda each: "\n" if each[1] == "n" else each[1], raw) for key, raw in labels}
        found.append((name, plain, float(value)))
    return found


@given(st.text(), st.text(), st.floats(allow_nan=False), st.sampled_from([TEXT, OPENMETRICS]))
def test_any_label_and_value_is_read_again(label: str, help_text: str, value: float, media_type: str) -> None:
    label = label.encode("utf-8", "replace").decode()
    metric = Metric("some_total", "counter", help_text, ("x",), "")
    text = encode([Family(metric, [Sample("", (("x", label),), value)])], media_type).decode()
    assert parse(text) == [("some_total", {"x": label}, value)]
    lines = text.split("\n")
    assert len(lines) == (5 if media_type is OPENMETRICS else 4), "a line break in a text is escaped"


@given(st.floats(allow_nan=False))
def test_a_number_is_read_as_the_same_value(value: float) -> None:
    assert float(number(value)) == value


def test_values_that_are_not_finite_have_their_names() -> None:
    assert [number(math.inf), number(-math.inf), number(math.nan), number(3.0)] == ["+Inf", "-Inf", "NaN", "3"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OPENMETRICS),
        ("text/plain, application/openmetrics-text; q=0.5", TEXT),
        ("application/openmetrics-text; q=0", TEXT),
        ("application/openmetrics-text; q=much", TEXT),
        ("APPLICATION/OpenMetrics-Text ; version=0.0.1", OPENMETRICS),
        (",;,;q=,", TEXT),
    ],
)
def test_the_client_chooses_the_format(accept: str, expected: str) -> None:
    assert choose_format(accept) == expected


def test_open_metrics_has_units_and_an_end() -> None:
    text = encode(make_families(observed()), OPENMETRICS).decode()
    assert text.endswith("\n# EOF\n")
    assert text.count("# EOF") == 1
    assert "# TYPE starman_refusals counter\n" in text
    assert "# UNIT starman_process_pss_bytes bytes\n" in text
    assert "\nstarman_refusals_total{" in text
    plain = encode(make_families(observed()), TEXT).decode()
    assert "# TYPE starman_refusals_total counter\n" in plain
    assert "EOF" not in plain
    assert "UNIT" not in plain
    assert parse(plain) == parse(text)


def test_every_histogram_is_cumulative_and_ends_with_its_count() -> None:
    samples = parse(encode(make_families(observed()), TEXT).decode())
    buckets = [(labels, value) for name, labels, value in samples if name == "http_server_request_duration_seconds_bucket"]
    counts = [(labels, value) for name, labels, value in samples if name == "http_server_request_duration_seconds_count"]
    assert len(buckets) == 15 * len(counts)
    for labels, count in counts:
        own = [value for found, value in buckets if found.items() >= labels.items()]
        assert own == sorted(own)
        assert own[-1] == count


def test_promtool_finds_no_fault() -> None:
    promtool = find_tool("promtool")
    text = encode(make_families(observed()), TEXT)
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
