"""SPEAR runs AI agents as small sandboxed programs.

The rule: importing the package imports nothing else; a public name is imported when it is used.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spear._core.filetable import Directory as Directory
    from spear._core.framing import FrameDecoder as FrameDecoder
    from spear._core.framing import encode as encode
    from spear._core.framing import encode_many as encode_many
    from spear._core.objstore import DELETE as DELETE
    from spear._core.objstore import ObjectStore as ObjectStore
    from spear._core.queues import DueQueue as DueQueue
    from spear._core.queues import RunQueue as RunQueue
    from spear.client.client import Client as Client
    from spear.client.sync import SyncClient as SyncClient
    from spear.errors import AlreadyExists as AlreadyExists
    from spear.errors import AnswerTooLarge as AnswerTooLarge
    from spear.errors import BudgetSpent as BudgetSpent
    from spear.errors import ChannelClosed as ChannelClosed
    from spear.errors import Conflict as Conflict
    from spear.errors import DeadlineExceeded as DeadlineExceeded
    from spear.errors import EngineUnavailable as EngineUnavailable
    from spear.errors import FrameError as FrameError
    from spear.errors import GuestTrap as GuestTrap
    from spear.errors import InUse as InUse
    from spear.errors import InvalidArgument as InvalidArgument
    from spear.errors import KvDamaged as KvDamaged
    from spear.errors import KvError as KvError
    from spear.errors import KvFormat as KvFormat
    from spear.errors import KvFull as KvFull
    from spear.errors import KvLagged as KvLagged
    from spear.errors import KvLocked as KvLocked
    from spear.errors import LogUnavailable as LogUnavailable
    from spear.errors import ModelError as ModelError
    from spear.errors import ModelGarbled as ModelGarbled
    from spear.errors import ModelRefused as ModelRefused
    from spear.errors import ModelTimeout as ModelTimeout
    from spear.errors import ModelUnavailable as ModelUnavailable
    from spear.errors import ModuleInvalid as ModuleInvalid
    from spear.errors import ModuleLimit as ModuleLimit
    from spear.errors import NoBackend as NoBackend
    from spear.errors import NodeBusy as NodeBusy
    from spear.errors import NodeClosed as NodeClosed
    from spear.errors import NotFound as NotFound
    from spear.errors import ObjectError as ObjectError
    from spear.errors import ObjectInUse as ObjectInUse
    from spear.errors import ObjectNotFound as ObjectNotFound
    from spear.errors import PermissionDenied as PermissionDenied
    from spear.errors import QueueFull as QueueFull
    from spear.errors import SnapshotExpired as SnapshotExpired
    from spear.errors import SpearError as SpearError
    from spear.errors import StoreFull as StoreFull
    from spear.errors import TaskInactive as TaskInactive
    from spear.errors import TooDeep as TooDeep
    from spear.errors import TooMany as TooMany
    from spear.errors import Unauthenticated as Unauthenticated
    from spear.errors import Unimplemented as Unimplemented
    from spear.errors import Unreachable as Unreachable
    from spear.errors import VersionConflict as VersionConflict
    from spear.hostcalls.llm.choice.filter.decider import Question as Question
    from spear.hostcalls.llm.choice.routing import Decision as Decision
    from spear.hostcalls.llm.choice.routing import Verdict as Verdict
    from spear.records.execution import Invocation as Invocation
    from spear.records.schedule import ScheduleSpec as ScheduleSpec
    from spear.records.task import Limits as Limits
    from spear.records.task import Pool as Pool
    from spear.records.task import Resources as Resources
    from spear.records.task import Retry as Retry
    from spear.records.task import TaskSpec as TaskSpec
    from spear.spearlet.execution.execution import Execution as Execution
    from spear.spearlet.library import Spearlet as Spearlet
    from spear.spearlet.library import SyncSpearlet as SyncSpearlet

__version__ = "0.1.0"

_HOMES = {
    "spear._core.filetable": ("Directory",),
    "spear._core.framing": ("FrameDecoder", "encode", "encode_many"),
    "spear._core.objstore": ("DELETE", "ObjectStore"),
    "spear._core.queues": ("DueQueue", "RunQueue"),
    "spear.errors": (
        "AlreadyExists", "AnswerTooLarge", "BudgetSpent", "ChannelClosed", "Conflict",
        "DeadlineExceeded", "EngineUnavailable", "FrameError", "GuestTrap", "InUse",
        "InvalidArgument",
        "KvDamaged", "KvError", "KvFormat", "KvFull", "KvLagged", "KvLocked",
        "LogUnavailable", "ModelError", "ModelGarbled", "ModelRefused", "ModelTimeout",
        "ModelUnavailable", "ModuleInvalid", "ModuleLimit", "NoBackend", "NodeBusy",
        "NodeClosed", "NotFound", "ObjectError", "ObjectInUse", "ObjectNotFound",
        "PermissionDenied", "QueueFull", "SnapshotExpired", "SpearError", "StoreFull",
        "TaskInactive", "TooDeep", "TooMany", "Unauthenticated", "Unimplemented", "Unreachable",
        "VersionConflict",
    ),
    "spear.client.client": ("Client",),
    "spear.client.sync": ("SyncClient",),
    "spear.hostcalls.llm.choice.filter.decider": ("Question",),
    "spear.hostcalls.llm.choice.routing": ("Decision", "Verdict"),
    "spear.records.execution": ("Invocation",),
    "spear.records.schedule": ("ScheduleSpec",),
    "spear.records.task": ("Limits", "Pool", "Resources", "Retry", "TaskSpec"),
    "spear.spearlet.execution.execution": ("Execution",),
    "spear.spearlet.library": ("Spearlet", "SyncSpearlet"),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'spear' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
