"""Where activations come from: one interface, and the sources that a model or a disk is.

A source is a list of rows, each the activations of one token position at L sites, with the tokens
of its sequence, its position and its label. Notation: N rows, n of them, L sites, d width, k tokens
of a sequence.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float32, Int64, Integer

from ...kernel import Task, Transformer
from ...training._torch import one_thread
from .._activations import default_sites, inputs_of
from .._config import Site, site_of
from .._errors import CrosscoderError
from .._store import ActivationStore
from ._forward import TorchTransformer, device_of, require_sites

_MOST_SEQUENCES = 1 << 20
_CACHED_NUMBERS = 1 << 28
_AT_ONCE = 4096
_NO_LABEL = -1


class Rows(NamedTuple):
    """Some rows of a source, on its device."""

    activations: Float32[torch.Tensor, "n L d"]
    targets: Float32[torch.Tensor, "n L d"]
    """What the decoder should give: `activations` again, but for a source with output sites."""
    token_ids: Int64[torch.Tensor, "n k"]
    """k = 0 where the source does not know them."""
    position: Int64[torch.Tensor, " n"]
    label: Int64[torch.Tensor, " n"]
    """The right answer to the sequence, -1 where the source does not know it."""


class ActivationSource(ABC):
    """A numbered list of rows of activations, the same at every reading."""

    sites: tuple[Site, ...]
    """What the encoder reads, in the order of the axis L."""
    output_sites: tuple[Site, ...] = ()
    """What the decoder of a cross-layer transcoder writes; empty: the same sites."""
    d: int
    positions: str
    """``last`` or ``all``."""
    complete: bool = False
    """Whether the rows are all inputs of a task, so that no other could be met."""
    model_sha256: str = ""
    transformer: Transformer | None = None
    """The model itself, where it is one of ours."""

    @abstractmethod
    def __len__(self) -> int:
        """Rows, N."""

    @abstractmethod
    def rows(self, indices: Int64[np.ndarray, " n"]) -> Rows:
        """The rows of these numbers, in their order. Raises CrosscoderError for one outside."""

    def labels(self) -> Int64[np.ndarray, " N"] | None:
        """The label of every row, or None where the source does not know them."""
        return None

    @abstractmethod
    def stated(self) -> dict[str, Any]:
        """What it is, as plain JSON, for metadata and to recognise it when a run is resumed."""


@final
class TransformerSource(ActivationSource):
    """The activations of one of our models on given sequences.

    They are computed once and kept if they are at most 1 GiB, and else at every reading.
    """

    def __init__(
        self,
        transformer: Transformer,
        tokens: Integer[np.ndarray, "s k"],
        labels: Integer[np.ndarray, "..."],
        *,
        sites: tuple[Site, ...] | None = None,
        output_sites: tuple[Site, ...] = (),
        positions: str = "last",
        device: str = "cpu",
        task: str = "",
        complete: bool = False,
    ) -> None:
        """Prepare s sequences of k tokens with their labels.

        sites: None for `compactproofs.crosscoders.default_sites`.
        positions: ``last`` gives one row a sequence, ``all`` gives k, in order of their positions.
        complete: whether the sequences are all inputs of the task.
        Raises CrosscoderError for a site the model does not have, or tokens that do not fit it.
        """
        self.transformer = transformer
        names = default_sites(transformer) if sites is None else ()
        self.sites = tuple(map(site_of, names)) if sites is None else tuple(sites)
        self.output_sites = tuple(output_sites)
        self.positions = positions
        self.complete = complete
        self.d = transformer.d_model
        self.model_sha256 = transformer.sha256
        self._task = task
        if positions not in ("last", "all"):
            raise CrosscoderError(f"positions = {positions!r} is not one of last, all")
        self._names = [site.name for site in (*self.sites, *self.output_sites)]
        require_sites(transformer, self._names)
        _require_tokens(tokens, labels, transformer)
        self._device = device_of(device)
        self._model = TorchTransformer(transformer, self._device)
        self._tokens = torch.tensor(tokens, dtype=torch.int64, device=device)
        self._labels = torch.tensor(labels, dtype=torch.int64, device=device)
        self._per_sequence = 1 if positions == "last" else tokens.shape[1]
        numbers = len(self) * len(self._names) * self.d
        self._kept = self._all() if numbers <= _CACHED_NUMBERS else None

    @classmethod
    def of_task(
        cls,
        transformer: Transformer,
        task: Task,
        *,
        samples: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> "TransformerSource":
        """The sequences of a task: all of them, or `samples` drawn uniformly by `seed` if fewer.

        options: the other arguments of the class. Raises CrosscoderError where there are more than
        2^20 sequences and `samples` is None, or the task does not fit the model.
        """
        if task.k != transformer.n_ctx or task.v > transformer.d_vocab:
            raise CrosscoderError(
                f"the task {task.name} does not fit a model of {transformer.n_ctx} positions and "
                f"{transformer.d_vocab} tokens"
            )
        if samples is None and task.total > _MOST_SEQUENCES:
            raise CrosscoderError(
                f"the task {task.name} has {task.total} sequences, more than {_MOST_SEQUENCES}; "
                "give --samples 200000 (samples=200000) or so"
            )
        most = task.total if samples is None else samples
        tokens, labels = inputs_of(task, most, seed)
        return cls(
            transformer,
            tokens,
            labels,
            task=task.name,
            complete=most >= task.total,
            **options,
        )

    def __len__(self) -> int:
        """Rows: the sequences, times the positions of each that are read."""
        return len(self._tokens) * self._per_sequence

    def rows(self, indices: Int64[np.ndarray, " n"]) -> Rows:
        """The rows of these numbers."""
        require_inside(indices, len(self))
        wanted = torch.tensor(indices).to(self._device)
        sequence, place = wanted // self._per_sequence, wanted % self._per_sequence
        if self._kept is not None:
            values = self._kept[wanted]
        else:
            values = self._computed(self._tokens[sequence])
            values = values[torch.arange(len(values), device=self._device), place]
        first = place if self._per_sequence > 1 else place + self._tokens.shape[1] - 1
        n_sites = len(self.sites)
        read = values[:, :n_sites]
        return Rows(
            activations=read,
            targets=values[:, n_sites:] if self.output_sites else read,
            token_ids=self._tokens[sequence],
            position=first,
            label=self._labels[sequence],
        )

    def labels(self) -> Int64[np.ndarray, " N"]:
        """The label of every row."""
        return np.repeat(self._labels.cpu().numpy(), self._per_sequence)

    def stated(self) -> dict[str, Any]:
        """Task, digest of the model, sequences, positions and sites."""
        return {
            "kind": "transformer",
            "task": self._task,
            "model_sha256": self.model_sha256,
            "rows": len(self),
            "complete": self.complete,
            "positions": self.positions,
            "sites": self._names,
        }

    def _all(self) -> Float32[torch.Tensor, "N L d"]:
        parts = [
            self._computed(self._tokens[begin : begin + _AT_ONCE]).flatten(0, 1)
            for begin in range(0, len(self._tokens), _AT_ONCE)
        ]
        return torch.cat(parts)

    def _computed(self, tokens: Int64[torch.Tensor, "n k"]) -> Float32[torch.Tensor, "n p L d"]:
        """Of the sequences `tokens`, at the p positions of each that are read."""
        # On one thread, as training is: sums in another order would give other weights.
        with torch.no_grad(), one_thread():
            sites = self._model(tokens, self._names).sites
        values = torch.stack([sites[name] for name in self._names], dim=2)
        return values[:, -self._per_sequence :]


@final
class StoreSource(ActivationSource):
    """Activations that were recorded on disk, as an `ActivationStore`."""

    def __init__(
        self,
        store: ActivationStore,
        *,
        token_ids: Integer[np.ndarray, "N k"] | None = None,
        position: Integer[np.ndarray, " N"] | None = None,
        label: Integer[np.ndarray, " N"] | None = None,
        positions: str = "all",
        device: str = "cpu",
    ) -> None:
        """Read rows of `store`; the other arrays say what its rows are, where that is known.

        Raises CrosscoderError for a store without rows, or an array of another length.
        """
        self.sites, self.d = store.settings.sites, store.settings.d
        self.positions = positions
        self.model_sha256 = store.settings.model_sha256
        self._store, self._device = store, device_of(device)
        if len(store) == 0:
            raise CrosscoderError(f"{store.path} has no rows; record some first")
        given = {"token_ids": token_ids, "position": position, "label": label}
        for name, array in given.items():
            if array is not None and len(array) != len(store):
                raise CrosscoderError(
                    f"{name} has {len(array)} entries, but {store.path} has {len(store)} rows"
                )
        self._token_ids, self._position, self._label = token_ids, position, label

    def __len__(self) -> int:
        """Rows of the store."""
        return len(self._store)

    def rows(self, indices: Int64[np.ndarray, " n"]) -> Rows:
        """The rows of these numbers, read from disk."""
        read = torch.from_numpy(self._store.read(indices)).to(self._device)

        def chosen(array: Integer[np.ndarray, "..."] | None, otherwise: np.ndarray) -> torch.Tensor:
            picked = otherwise if array is None else array[indices]
            return torch.tensor(picked, dtype=torch.int64, device=self._device)

        n = len(indices)
        return Rows(
            activations=read,
            targets=read,
            token_ids=chosen(self._token_ids, np.zeros((n, 0), np.int64)),
            position=chosen(self._position, np.zeros(n, np.int64)),
            label=chosen(self._label, np.full(n, _NO_LABEL)),
        )

    def labels(self) -> Int64[np.ndarray, " N"] | None:
        """The label of every row, if it was given."""
        return None if self._label is None else np.asarray(self._label, np.int64)

    def stated(self) -> dict[str, Any]:
        """Digest of the model, rows and sites; not the path, which may change."""
        return {
            "kind": "store",
            "model_sha256": self.model_sha256,
            "rows": len(self),
            "positions": self.positions,
            "sites": [site.name for site in self.sites],
        }


def require_inside(indices: Int64[np.ndarray, " n"], n_rows: int) -> None:
    """Raise CrosscoderError for a number that is no row."""
    outside = (indices < 0) | (indices >= n_rows)
    if outside.any():
        raise CrosscoderError(f"row {indices[outside][0]} is not one of the {n_rows}")


def _require_tokens(
    tokens: Integer[np.ndarray, "s k"], labels: Integer[np.ndarray, "..."], transformer: Transformer
) -> None:
    if tokens.size == 0:
        raise CrosscoderError("there are no sequences; give at least one")
    if tokens.shape[1] != transformer.n_ctx:
        raise CrosscoderError(
            f"sequences of {tokens.shape[1]} tokens, but the model reads {transformer.n_ctx}"
        )
    if len(labels) != len(tokens):
        raise CrosscoderError(f"{len(labels)} labels for {len(tokens)} sequences; give one each")
    for name, values, below in (
        ("token", tokens, transformer.d_vocab),
        ("label", labels, transformer.d_vocab_out),
    ):
        if values.min() < 0 or values.max() >= below:
            raise CrosscoderError(
                f"{name}s run from {values.min()} to {values.max()}, but the model has {below}"
            )
