"""What a request costs, in billionths of a dollar, by a table of prices.

The rule: whole numbers, rounded up. An entry that names the model beats one with a pattern; among
patterns the first one counts. A backend of this machine costs nothing unless the table says so; of
any other one without an entry the price is unknown (None), never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from spear.config_llm import Price
from spear.records.models import LOCAL, BackendSpec

_MILLION = 10**6


class Prices:
    def __init__(self, table: Sequence[Price]) -> None:
        self._table = tuple(table)

    def of(
        self, spec: BackendSpec, model: str, prompt_tokens: int, completion_tokens: int
    ) -> int | None:
        """Of that many tokens by `model` at that backend; None: no price is known."""
        price = self._find(spec.name, model) if self._table else None
        if price is None:
            return 0 if spec.hosting == LOCAL else None
        cost = prompt_tokens * price.prompt + completion_tokens * price.completion
        return -(-cost // _MILLION)

    def _find(self, backend: str, model: str) -> Price | None:
        fitting = [
            price
            for price in self._table
            if fnmatchcase(model, price.model) and fnmatchcase(backend, price.backend)
        ]
        exact = (price for price in fitting if price.model == model)
        return next(exact, fitting[0] if fitting else None)
