"""What a node counts, and its page for Prometheus.

The rule: counting is adding to an integer; names, labels and text are made when somebody asks. One
registry a node, passed by constructor. Names follow Prometheus; durations are counted in
nanoseconds and shown in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, cast

from spear.errors import InvalidArgument
from spear.telemetry.histogram import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SERIES_MAX = 10_000  # of one node, so that no caller's words can fill its memory
_NAME = re.compile("[a-z][a-z0-9_]*")
# 1 us to 69 s, by fours.
_BOUNDS_NS = tuple(1 << bits for bits in range(10, 37, 2))

Labels = tuple[tuple[str, str], ...]
Reader = Callable[[], Mapping[str, int]]


class Counter:
    """Grows; `value` may be added to directly."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, count: int = 1) -> None:
        self.value += count


class Gauge:
    """Goes up and down; `value` may be set directly."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


Series = TypeVar("Series", Counter, Gauge, Histogram)


class _Family:
    """All series of one name."""

    __slots__ = ("help", "kind", "series")

    def __init__(self, kind: str, help: str) -> None:
        self.kind, self.help = kind, help
        self.series: dict[Labels, Counter | Gauge | Histogram] = {}


class Metrics:
    """Makes the counters of a node and shows them. Asking for the same series twice gives the same
    one. Raises InvalidArgument for a name that is another kind already, or beyond SERIES_MAX."""

    __slots__ = ("_families", "_prefix", "_readers", "_series")

    def __init__(self, prefix: str = "spear") -> None:
        self._prefix, self._series = prefix, 0
        self._families: dict[str, _Family] = {}
        self._readers: dict[str, tuple[str, Reader]] = {}

    def counter(self, name: str, help: str, **labels: str) -> Counter:
        return self._get("counter", name, help, labels, Counter)

    def gauge(self, name: str, help: str, **labels: str) -> Gauge:
        return self._get("gauge", name, help, labels, Gauge)

    def histogram(self, name: str, help: str, **labels: str) -> Histogram:
        """Of nanoseconds."""
        return self._get("histogram", name, help, labels, Histogram)

    def read_from(self, name: str, help: str, reader: Reader) -> None:
        """Figures that another part counts: each key of what `reader` gives is a gauge
        `NAME_KEY`. It is called when somebody asks, in the asker's thread."""
        self._readers[_checked(name)] = (help, reader)

    def remove(self, name: str, **labels: str) -> None:
        """Forgets a series, such as that of a task that is gone."""
        family = self._families.get(name)
        if family is not None and family.series.pop(_labels(labels), None) is not None:
            self._series -= 1

    def figures(self) -> dict[str, dict[str, int]]:
        """Everything as plain numbers, by name and by labels or key."""
        found: dict[str, dict[str, int]] = {}
        for name, family in self._families.items():
            for labels, series in family.series.items():
                key = ",".join(value for _, value in labels)
                if isinstance(series, Histogram):
                    found[f"{name}:{key}" if key else name] = series.summary()
                else:
                    found.setdefault(name, {})[key or "value"] = series.value
        return found | {name: dict(reader()) for name, (_, reader) in self._readers.items()}

    def page(self) -> str:
        """The text format of Prometheus, 0.0.4; of type CONTENT_TYPE."""
        return "".join(line + "\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name, family in self._families.items():
            full = self._full_name(name, family.kind)
            yield f"# HELP {full} {_escaped(family.help)}"
            yield f"# TYPE {full} {family.kind}"
            for labels, series in family.series.items():
                if isinstance(series, Histogram):
                    yield from _histogram_lines(full, labels, series)
                else:
                    yield f"{full}{_label_text(labels)} {series.value}"
        for name, (help, reader) in self._readers.items():
            for key, value in reader().items():
                full = f"{self._prefix}_{name}_{key}"
                yield f"# HELP {full} {_escaped(help)}"
                yield f"# TYPE {full} gauge"
                yield f"{full} {value}"

    def _full_name(self, name: str, kind: str) -> str:
        ending = {"counter": "_total", "histogram": "_seconds"}.get(kind, "")
        return f"{self._prefix}_{name}{ending}"

    def _get(
        self, kind: str, name: str, help: str, labels: Mapping[str, str], make: Callable[[], Series]
    ) -> Series:
        family = self._families.get(name)
        if family is None:
            family = self._families[_checked(name)] = _Family(kind, help)
        if family.kind != kind:
            raise InvalidArgument(f"metric {name!r} is a {family.kind}, not a {kind}")
        key = _labels(labels)
        series = family.series.get(key)
        if series is None:
            if self._series >= SERIES_MAX:
                raise InvalidArgument(f"metric {name!r}: there are {SERIES_MAX} series already")
            self._series += 1
            series = family.series[key] = make()
        return cast("Series", series)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"a metric's name is {_NAME.pattern}, found {name!r}")
    return name


def _labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _label_text(labels: Labels) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value, quotes=True)}"' for name, value in labels)
    return "{" + ",".join(pairs) + "}"


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    text = text.encode("utf-8", "replace").decode()  # of a name that is not UTF-8
    return text.replace('"', '\\"') if quotes else text


def _histogram_lines(name: str, labels: Labels, histogram: Histogram) -> Iterator[str]:
    for bound_ns, count in zip(_BOUNDS_NS, histogram.below(_BOUNDS_NS), strict=True):
        bound = (("le", f"{bound_ns / 1e9:.12g}"),)
        yield f"{name}_bucket{_label_text(labels + bound)} {count}"
    yield f"{name}_bucket{_label_text((*labels, ('le', '+Inf')))} {histogram.count}"
    yield f"{name}_sum{_label_text(labels)} {histogram.total / 1e9:.12g}"
    yield f"{name}_count{_label_text(labels)} {histogram.count}"
