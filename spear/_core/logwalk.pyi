"""Walks a log of RocksDB; see logwalk.pyx for the rules."""

def walked(data: bytes) -> tuple[int, int, int, bool]:
    """Of a whole log: its first sequence number, and the one behind the last, both 0 where it has
    no record; where no record of ours stands, else its size; whether something else than zeros is
    behind that."""
