"""What the parts of a node share; built once, by services.open_node, and handed to each.

The rule: plain references, no behaviour.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from spear.clock import Clock, Ids
    from spear.config import Config
    from spear.kv.interface import LocalKv
    from spear.runtime.interface import Runtime
    from spear.spearlet.admission import Admission
    from spear.spearlet.logs.store import LogStore
    from spear.spearlet.node.events import Events
    from spear.spearlet.node.files import Files
    from spear.spearlet.node.journal import Journal
    from spear.spearlet.node.pools import Pools
    from spear.spearlet.node.programs import Programs
    from spear.spearlet.node.secrets import Secrets
    from spear.spearlet.node.work import Work
    from spear.spearlet.webhooks.sender import WebhookSender
    from spear.telemetry.jsonlog import Log
    from spear.telemetry.redact import Redactor


class Parts:
    """`environ` is what tasks may refer to; `input_bytes_max` bounds the inputs held in memory."""

    __slots__ = (
        "admission", "clock", "config", "environ", "events", "files", "ids", "input_bytes_max",
        "journal", "kv", "log", "logs", "node_name", "pools", "programs", "redactor", "runtime",
        "secrets", "webhooks",
    )  # fmt: skip

    def __init__(
        self, *, admission: Admission[Work], clock: Clock, config: Config,
        environ: Mapping[str, str], events: Events, files: Files, ids: Ids, input_bytes_max: int,
        journal: Journal, kv: LocalKv, log: Log, logs: LogStore, pools: Pools, programs: Programs,
        redactor: Redactor, runtime: Runtime, secrets: Secrets,
        webhooks: WebhookSender,
    ) -> None:  # fmt: skip
        self.admission, self.clock, self.config, self.files = admission, clock, config, files
        self.environ, self.events, self.ids, self.journal = environ, events, ids, journal
        self.kv, self.log, self.logs, self.redactor = kv, log, logs, redactor
        self.pools, self.programs, self.runtime = pools, programs, runtime
        self.secrets, self.webhooks = secrets, webhooks
        self.input_bytes_max, self.node_name = input_bytes_max, config.node_name
