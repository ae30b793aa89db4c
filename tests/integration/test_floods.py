"""Many guests that log and write as fast as they can, while one reader takes a little at a time.

Rule: what is lost is counted, what is not lost is read once and in order, and what is kept is
bounded by the limits, not by what was written.
"""

from __future__ import annotations

from guest_runs import executor, guest, resident_kib

from spear._core.run import Run

GUESTS = 16
LINES, LINE_BYTES, RING = 3000, 16_384, 64
RESIDENT_KIB_MAX = 150 << 10  # of 750 MiB that are logged, 16 MiB are kept
WRITTEN, LIMIT = 2_000_000, 1_000_000


def numbers_of_lines(runs: list[Run]) -> list[list[int]]:
    """Of what was read, a few lines of one guest after the other until nobody has more."""
    taken: list[list[int]] = [[] for _ in runs]
    begun, going_on = resident_kib(), True
    while going_on:
        going_on = not all(run.done for run in runs)
        for own, run in zip(taken, runs, strict=True):
            for line in run.read_logs(10):
                number = line.seq - 1
                assert line.message == f"line {number:08}".ljust(LINE_BYTES, ".")
                own.append(number)
                going_on = True
        assert resident_kib() - begun < RESIDENT_KIB_MAX
    return taken


def test_floods_of_log_lines_are_bounded_and_counted():
    args = ("log_flood", str(LINES), str(LINE_BYTES))
    options = {"log_lines_max": RING, "log_bytes_max": 64 << 20}
    with executor(workers=2) as node:
        runs = [node.start(guest("log_flood"), args=args, **options) for _ in range(GUESTS)]
        read = numbers_of_lines(runs)
        outcomes = [run.outcome for run in runs]
    assert {(outcome.cause, outcome.exit_code) for outcome in outcomes} == {("exit", 0)}
    for numbers, outcome in zip(read, outcomes, strict=True):
        assert numbers == sorted(set(numbers))
        assert numbers[-RING:] == list(range(LINES - RING, LINES)), "the last ones are all there"
        assert outcome.log_lines == LINES == len(numbers) + outcome.log_lost
        assert not outcome.log_truncated
    assert sum(outcome.log_lost for outcome in outcomes) > 0


def test_floods_of_output_are_kept_up_to_the_limit_whoever_reads():
    """Half of the guests write more than they may."""
    text = bytes(10 if at % 64 == 63 else 97 + at % 26 for at in range(WRITTEN))
    args = ("stdout_flood", str(WRITTEN))
    with executor(workers=2) as node:
        runs = [
            node.start(
                guest("stdout_flood"), args=args,
                output_bytes_max=LIMIT if number % 2 else WRITTEN,
            )
            for number in range(GUESTS)
        ]  # fmt: skip
        read, going_on = [b""] * GUESTS, True
        while going_on:
            going_on = not all(run.done for run in runs)
            for number, run in enumerate(runs):
                read[number] += run.read_output()
        for number, run in enumerate(runs):
            assert read[number] + run.read_output() == run.output
            assert run.outcome.output_bytes == len(run.output)
            if number % 2:
                assert run.outcome.cause == "output_limit"
                assert LIMIT - 16_384 <= len(run.output) <= LIMIT
                assert text.startswith(run.output)
            else:
                assert (run.outcome.cause, run.output) == ("exit", text)
