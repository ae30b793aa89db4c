"""How a quantity is spread: a histogram with buckets that widen with the value.

The rule: a bucket spans at most a sixteenth of its values, so an estimate is within 3.2 percent;
all is counted in plain integers. Values are whole numbers from 0 on, such as nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterator

_SPLIT_BITS = 4  # each power of two is split into 2**4 buckets
_SPLIT = 1 << _SPLIT_BITS
_VALUE_MAX = (1 << 48) - 1  # 78 hours in nanoseconds; more counts as this
_BUCKETS = (48 - _SPLIT_BITS + 1) << _SPLIT_BITS


class Histogram:
    """Counts values. Owned by one thread; readers may look at any time."""

    __slots__ = ("_counts", "count", "largest", "total")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = self.total = self.largest = 0

    def observe(self, value: int) -> None:
        """Counts one value; one below 0 (a clock that jumped) counts as 0."""
        if value < 0:
            value = 0
        self.count += 1
        self.total += value
        if value > self.largest:
            self.largest = value
        self._counts[_bucket(value)] += 1

    @property
    def mean(self) -> int:
        return self.total // self.count if self.count else 0

    def percentile(self, percent: float) -> int:
        """The value that `percent` of all do not exceed, estimated; 0 without any."""
        rank = max(1, -(-self.count * percent // 100))
        for low, high, count in self._filled():
            rank -= count
            if rank <= 0:
                return min((low + high) // 2, self.largest)
        return self.largest

    def below(self, bounds: tuple[int, ...]) -> list[int]:
        """How many values are at most each bound; exact where the bounds are powers of two."""
        found, at = [0] * len(bounds), 0
        seen = 0
        for _, high, count in self._filled():
            while at < len(bounds) and high > bounds[at]:
                found[at] = seen
                at += 1
            seen += count
        return found[:at] + [seen] * (len(bounds) - at)

    def summary(self) -> dict[str, int]:
        """Count, mean, percentiles and the largest value."""
        spread = {f"p{percent}": self.percentile(percent) for percent in (50, 90, 99)}
        return {"count": self.count, "mean": self.mean, **spread, "max": self.largest}

    def _filled(self) -> Iterator[tuple[int, int, int]]:
        """(lowest value, highest value, count) of the buckets in use, in order."""
        for bucket, count in enumerate(self._counts):
            if count:
                yield *_range(bucket), count


def _bucket(value: int) -> int:
    """A bucket holds the values above a power of two up to the next, or a sixteenth of those: the
    upper end belongs to it, as Prometheus counts."""
    if value > _VALUE_MAX:
        value = _VALUE_MAX
    value -= 1
    if value < _SPLIT:
        return value if value > 0 else 0
    shift = value.bit_length() - _SPLIT_BITS - 1
    return (shift << _SPLIT_BITS) + (value >> shift)


def _range(bucket: int) -> tuple[int, int]:
    if bucket < _SPLIT:
        return bucket + 1 if bucket else 0, bucket + 1
    shift = (bucket >> _SPLIT_BITS) - 1
    low = (bucket - (shift << _SPLIT_BITS)) << shift
    return low + 1, low + (1 << shift)
