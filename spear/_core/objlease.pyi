"""What a run's guests may reach of an object store; see objlease.pxd."""

from typing import final

@final
class Lease: ...
