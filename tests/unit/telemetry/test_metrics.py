"""Metrics, and their page as a scraper reads it."""

from __future__ import annotations

import re

import pytest

from spear.errors import InvalidArgument
from spear.telemetry import metrics as metrics_module
from spear.telemetry.metrics import Metrics

SAMPLE = re.compile(
    r'([a-z_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? (-?[0-9.e+-]+)'
)  # fmt: skip


def samples(page: str) -> dict[str, float]:
    """Every sample of the page; each line must be one or a comment."""
    found = {}
    for line in page.splitlines():
        if not line.startswith(("# HELP ", "# TYPE ")):
            match = SAMPLE.fullmatch(line)
            assert match, line
            found[match[1] + (match[2] or "")] = float(match[3])
    return found


def test_counters_gauges_and_figures_of_others_are_shown() -> None:
    metrics = Metrics()
    metrics.counter("executions", "Ended", status="completed").add(2)
    metrics.counter("executions", "Ended", status="completed").add()
    metrics.gauge("queue_length", "Waiting").value = 7
    metrics.read_from("logs", "Of the log store", lambda: {"lines": 5})
    assert samples(metrics.page()) == {
        'spear_executions_total{status="completed"}': 3,
        "spear_queue_length": 7,
        "spear_logs_lines": 5,
    }
    assert "# TYPE spear_executions_total counter\n" in metrics.page()
    assert metrics.figures() == {
        "executions": {"completed": 3}, "queue_length": {"value": 7}, "logs": {"lines": 5},
    }  # fmt: skip


def test_a_histogram_has_cumulative_buckets_in_seconds() -> None:
    metrics = Metrics()
    histogram = metrics.histogram("invoke", "Latency", task="t")
    for value_ns in (1000, 1024, 1025, 10**15):
        histogram.observe(value_ns)
    found = samples(metrics.page())
    assert found['spear_invoke_seconds_bucket{task="t",le="1.024e-06"}'] == 2
    assert found['spear_invoke_seconds_bucket{task="t",le="4.096e-06"}'] == 3
    assert found['spear_invoke_seconds_bucket{task="t",le="68.719476736"}'] == 3
    assert found['spear_invoke_seconds_bucket{task="t",le="+Inf"}'] == 4
    assert found['spear_invoke_seconds_count{task="t"}'] == 4
    assert found['spear_invoke_seconds_sum{task="t"}'] == pytest.approx(10**6)
    assert metrics.figures()["invoke:t"]["count"] == 4


def test_labels_of_anybody_s_choice_cannot_break_the_page() -> None:
    metrics = Metrics()
    metrics.counter("x", 'help "with"\nnew line', task='a"b\\c\nd\udc80').add()
    assert list(samples(metrics.page())) == ['spear_x_total{task="a\\"b\\\\c\\nd?"}']
    assert len(metrics.page().splitlines()) == 3


def test_one_name_is_one_kind_and_names_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    metrics.counter("x", "")
    with pytest.raises(InvalidArgument, match="is a counter"):
        metrics.gauge("x", "")
    with pytest.raises(InvalidArgument, match="name"):
        metrics.counter("Bad-name", "")
    monkeypatch.setattr(metrics_module, "SERIES_MAX", 2)
    metrics.counter("x", "", a="1")
    with pytest.raises(InvalidArgument, match="2 series"):
        metrics.counter("x", "", a="2")
    metrics.remove("x", a="1")
    metrics.remove("x", a="1")
    metrics.counter("x", "", a="2")
