"""Tells whether a folder has got a new file; see folderwatch.pyx for the rules."""

class FolderWatch:
    def __init__(self, path: str) -> None:
        """From now on. Where the system watches no more folders, each answer is that there may be
        one."""

    def changed(self) -> bool:
        """Whether a file was made in the folder, or moved there, since it was asked last."""

    def close(self) -> None: ...
