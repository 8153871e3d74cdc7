"""docs/metrics.md is up to date with the table of metrics."""

from __future__ import annotations

from starman.observer.metrics.metric_table import METRICS
from tests.unit.docs_scripts import DOCS, import_docs_script


def test_the_metrics_page_is_up_to_date() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert page == import_docs_script("build").metrics_page(), "run: make docs"
    assert all(f"| `{metric.name}` | {metric.kind} |" in page for metric in METRICS)
