"""Which data arrived already: a datum that came twice would be counted twice."""

from jaxtyping import Float64
from numpy import ndarray

from ..kernel import UserError
from ..kernel.gate import History, StreamEntry, fingerprints
from ..kernel.gate._evidence import Shards


class Arrived:
    """The rows of a gate's stream by fingerprint, read once each."""

    def __init__(self, model: str, sites: str) -> None:
        """Of the gate's network and sites, by SHA-256."""
        self._about = model, sites
        self._batches = 0
        self._lines: dict[bytes, list[int]] = {}

    def require_new(
        self, history: History, shards: Shards, h: Float64[ndarray, "n s"], what: str = "data"
    ) -> None:
        """Refuse rows that the stream holds, in whatever portions; raises UserError.

        Retracted rows are not held, and what is not finite is equal to nothing. Cost: a hash of
        each row, and once of each row of the stream.
        """
        for batch in history.batches[self._batches :]:
            entry = history.lines[batch.number].entry
            shard = shards.get(entry.shard) if isinstance(entry, StreamEntry) else None
            if shard is not None:
                for name in fingerprints(*self._about, shard.arrays["h"]):
                    self._lines.setdefault(name, []).append(batch.number)
        self._batches = len(history.batches)
        again = sum(
            name != b"" and any(history.alive[line] for line in self._lines.get(name, ()))
            for name in fingerprints(*self._about, h)
        )
        if again:
            raise UserError(
                f"{again} of {len(h)} {what} are in the stream already: each datum counts once"
            )
