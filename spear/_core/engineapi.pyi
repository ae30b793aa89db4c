"""Finds and loads the engine's library; see engineapi.pyx."""

VERSION_FLOOR: tuple[int, int, int]
VERSION_CEILING: tuple[int, int, int]
REFUSED: dict[tuple[int, int, int], str]

def library() -> tuple[str, str]: ...
def check_version(version: str) -> None: ...
