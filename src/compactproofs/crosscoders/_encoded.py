"""A data set in code: for every input its active features, its tokens and its label.

Compressed rows: the active features of row r are ``indices[indptr[r]:indptr[r + 1]]``, in
increasing order, with the codes ``values`` of the same places. Notation: N rows, H features, Q
levels.
"""

from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Integer, Shaped

from ._config import TOPK, require_digest, require_positive
from ._crosscoder import Crosscoder
from ._errors import CrosscoderError
from ._quantisation import nearest_levels
from ._store import ActivationStore

_CHUNK: Final = 1 << 16  # codes whose levels are compared at once
_MOST: Final = 1 << 31  # features, tokens or labels: they are kept as int32


@final
@dataclass(frozen=True, eq=False)
class EncodedDataset:
    """Codes in compressed rows, with the inputs they are of.

    Arrays are kept as read-only copies: integers as int32 (``indptr``: int64), codes as float32.
    Raises CrosscoderError, naming the array and the row, for a code that is NaN, infinite or not
    positive, a feature out of range or out of order, more than `k` active features, a token,
    position or label that does not exist, or a code that is not one of its feature's levels.
    """

    indptr: Integer[np.ndarray, " N_and_one"]
    indices: Integer[np.ndarray, " nnz"]
    values: Float[np.ndarray, " nnz"]
    token_ids: Integer[np.ndarray, "N n_ctx"]
    position: Integer[np.ndarray, " N"]
    """Of the token whose activations were encoded."""
    label: Integer[np.ndarray, " N"]
    d_sae: int
    d_vocab: int
    """Tokens that there are."""
    d_vocab_out: int
    """Labels that there are."""
    k: int | None = None
    """The most active features of a row; None: not limited."""
    crosscoder_sha256: str = ""
    model_sha256: str = ""
    task: str = ""
    levels: Float[np.ndarray, "H Q"] | None = None
    """What the codes of each feature may be, non-decreasing; zeros if it never fires."""

    def __post_init__(self) -> None:
        """Refuse what is not a data set."""
        for name in ("d_sae", "d_vocab", "d_vocab_out"):
            require_positive(name, getattr(self, name))
            if getattr(self, name) > _MOST:
                raise CrosscoderError(f"{name} = {getattr(self, name)} is more than {_MOST}")
        if self.k is not None:
            require_positive("k", self.k)
        for name in ("crosscoder_sha256", "model_sha256"):
            require_digest(name, getattr(self, name))
        if type(self.task) is not str:
            raise CrosscoderError(f"task = {self.task!r} must be a string")
        n_rows = self._keep_inputs()
        self._keep_rows(n_rows)
        if self.levels is not None:
            self._keep_levels(np.asarray(self.levels))

    def _keep_inputs(self) -> int:
        tokens = np.asarray(self.token_ids)
        if tokens.ndim != 2:
            raise CrosscoderError(f"token_ids has shape {tokens.shape}, not [N, n_ctx]")
        n_rows, n_ctx = tokens.shape
        for name, below, shape in (
            ("token_ids", self.d_vocab, (n_rows, n_ctx)),
            ("position", n_ctx, (n_rows,)),
            ("label", self.d_vocab_out, (n_rows,)),
        ):
            self._keep_integers(name, shape, below)
        return n_rows

    def _keep_integers(self, name: str, shape: tuple[int, ...], below: int) -> None:
        array = np.asarray(getattr(self, name))
        if array.dtype.kind not in "iu" or array.shape != shape:
            raise CrosscoderError(f"{name} is {array.dtype} {array.shape}, not integers {shape}")
        outside = (array < 0) | (array >= below)
        if outside.any():
            where = tuple(int(i) for i in np.argwhere(outside)[0])
            raise CrosscoderError(
                f"{name} of row {where[0]} is {array[where]}, not from 0 to {below - 1}"
            )
        self._keep(name, array.astype(np.int32))

    def _keep_rows(self, n_rows: int) -> None:
        indptr = np.asarray(self.indptr)
        if indptr.dtype.kind not in "iu" or indptr.shape != (n_rows + 1,):
            raise CrosscoderError(
                f"indptr is {indptr.dtype} {indptr.shape}, not integers {(n_rows + 1,)}"
            )
        indptr = indptr.astype(np.int64)
        counts = np.diff(indptr)
        n_codes = int(indptr[-1])
        if indptr[0] != 0 or (counts < 0).any():
            raise CrosscoderError("indptr must begin with 0 and never decrease")
        self._keep("indptr", indptr)
        values = np.asarray(self.values)
        if values.dtype.kind != "f" or values.shape != (n_codes,):
            raise CrosscoderError(
                f"values is {values.dtype} {values.shape}, not floats {(n_codes,)}"
            )
        rows = np.repeat(np.arange(n_rows), counts)
        wrong = ~(np.isfinite(values) & (values > 0))
        if wrong.any():
            place = int(np.argmax(wrong))
            raise CrosscoderError(
                f"values of row {rows[place]} holds {values[place]}, but a stored code is positive "
                "and finite"
            )
        self._keep("values", values.astype(np.float32))
        self._keep_integers("indices", (n_codes,), self.d_sae)
        keys = rows * self.d_sae + self.indices
        if (np.diff(keys) <= 0).any():
            row = rows[1 + int(np.argmax(np.diff(keys) <= 0))]
            raise CrosscoderError(f"indices of row {row} are not in increasing order")
        if self.k is not None and n_codes and counts.max() > self.k:
            row = int(np.argmax(counts))
            raise CrosscoderError(
                f"row {row} has {counts[row]} active features, more than k = {self.k}; "
                "encode with encode_topk"
            )

    def _keep_levels(self, levels: Shaped[np.ndarray, "..."]) -> None:
        if levels.ndim != 2 or len(levels) != self.d_sae or levels.dtype.kind != "f":
            raise CrosscoderError(
                f"levels is {levels.dtype} {levels.shape}, not floats [H={self.d_sae}, Q]"
            )
        fits = np.isfinite(levels).all() and (levels >= 0).all()
        if not fits or (np.diff(levels, axis=1) < 0).any():
            raise CrosscoderError("levels must be finite, at least 0 and non-decreasing")
        levels = levels.astype(np.float32)
        self._keep("levels", levels)
        for begin in range(0, len(self.values), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            known = (levels[self.indices[part]] == self.values[part, None]).any(axis=1)
            if not known.all():
                place = begin + int(np.argmin(known))
                row = int(np.searchsorted(self.indptr, place, side="right")) - 1
                raise CrosscoderError(
                    f"values of row {row}: {self.values[place]} is not a level of feature "
                    f"{self.indices[place]}"
                )

    def _keep(self, name: str, array: Shaped[np.ndarray, "..."]) -> None:
        kept = np.array(array, order="C", copy=True)
        kept.setflags(write=False)
        object.__setattr__(self, name, kept)

    def __len__(self) -> int:
        """Rows, N."""
        return len(self.label)

    def active(self) -> Int64[np.ndarray, " N"]:
        """How many features are active in each row."""
        return np.diff(self.indptr)

    def firing_frequency(self) -> Float64[np.ndarray, " H"]:
        """The share of rows in which each feature is active; zeros where there are no rows."""
        return np.bincount(self.indices, minlength=self.d_sae) / max(1, len(self))

    def dense(
        self, rows: Integer[np.ndarray, " n"] | slice | None = None
    ) -> Float32[np.ndarray, "n H"]:
        """The codes of some rows (None: of all), zeros included; n H numbers of memory.

        Raises CrosscoderError for a row outside.
        """
        wanted = np.arange(len(self)) if rows is None else rows
        if isinstance(wanted, slice):
            wanted = np.arange(len(self))[wanted]
        outside = (wanted < 0) | (wanted >= len(self))
        if outside.any():
            raise CrosscoderError(f"row {wanted[outside][0]} is not one of the {len(self)}")
        counts = self.active()[wanted]
        target = np.repeat(np.arange(len(wanted)), counts)
        # Place of each code: the begin of its row, and its place in it.
        before = np.cumsum(counts) - counts
        places = np.arange(len(target)) + np.repeat(self.indptr[wanted] - before, counts)
        codes = np.zeros((len(wanted), self.d_sae), np.float32)
        codes[target, self.indices[places]] = self.values[places]
        return codes

    def quantised(self, n_levels: int, method: str = "quantile") -> "EncodedDataset":
        """The same data set with each code replaced by the nearest of `n_levels` of its feature.

        ``quantile``: levels at the middle of equal shares of its codes; ``uniform``: in the middle
        of equal parts of their range. A level that no code is nearest to is left out, the last one
        repeated in its place. A feature with no more distinct codes than levels keeps them, so that
        doing it twice changes nothing. The lower of two equally near levels is taken.
        Raises CrosscoderError for another method or number.
        """
        levels, values = nearest_levels(self.indices, self.values, self.d_sae, n_levels, method)
        return replace(self, values=values, levels=levels)


def encoded_from_codes(codes: Shaped[np.ndarray, "..."], **fields: Any) -> EncodedDataset:
    """An `EncodedDataset` of `codes` [N, H]; `fields` are its others, without the compressed rows.

    Raises CrosscoderError for codes that are negative, NaN or infinite, and as `EncodedDataset`.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.dtype.kind != "f":
        raise CrosscoderError(f"codes are {codes.dtype} {codes.shape}, not floats [N, H]")
    return EncodedDataset(**_compressed(codes), d_sae=codes.shape[1], **fields)


def encode_dataset(
    crosscoder: Crosscoder,
    activations: ActivationStore | Shaped[np.ndarray, "..."],
    *,
    token_ids: Integer[np.ndarray, "N n_ctx"],
    position: Integer[np.ndarray, " N"],
    label: Integer[np.ndarray, " N"],
    d_vocab: int,
    d_vocab_out: int,
    task: str = "",
    k: int | None = None,
    batch: int = 1024,
) -> EncodedDataset:
    """Encode activations [N, L, d] in batches, row by row of the inputs they are of.

    k: encode by `Crosscoder.encode_topk` with so many active features; None: `Crosscoder.encode`.
    Raises CrosscoderError where the store holds other sites or another model than the crosscoder
    reads, and as `EncodedDataset`. Cost: `Crosscoder.encode`; memory of one dense batch.
    """
    require_positive("batch", batch)
    config = crosscoder.config
    if isinstance(activations, ActivationStore):
        settings = activations.settings
        if settings.sites != config.sites:
            raise CrosscoderError(
                f"{activations.path} holds the sites {', '.join(s.name for s in settings.sites)}, "
                f"but the crosscoder reads {', '.join(s.name for s in config.sites)}"
            )
        digests = (settings.model_sha256, config.model_sha256)
        if all(digests) and digests[0] != digests[1]:
            raise CrosscoderError(
                f"{activations.path} holds activations of the model {digests[0]}, but the "
                f"crosscoder is of {digests[1]}"
            )
        parts = activations.batches(batch)
    else:
        parts = (activations[begin : begin + batch] for begin in range(0, len(activations), batch))
    encoded = [
        _compressed(crosscoder.encode(part) if k is None else crosscoder.encode_topk(part, k))
        for part in parts
    ]
    counts = [np.diff(part["indptr"]) for part in encoded]
    return EncodedDataset(
        indptr=np.cumsum(np.concatenate([[0], *counts]), dtype=np.int64),
        indices=np.concatenate([np.empty(0, np.int32), *(part["indices"] for part in encoded)]),
        values=np.concatenate([np.empty(0, np.float32), *(part["values"] for part in encoded)]),
        token_ids=token_ids,
        position=position,
        label=label,
        d_sae=config.d_sae,
        d_vocab=d_vocab,
        d_vocab_out=d_vocab_out,
        k=config.k if k is None and config.architecture == TOPK else k,
        crosscoder_sha256=crosscoder.sha256,
        model_sha256=config.model_sha256,
        task=task,
    )


def _compressed(codes: Shaped[np.ndarray, "N H"]) -> dict[str, Shaped[np.ndarray, "..."]]:
    rows, features = np.nonzero(codes)
    counts = np.bincount(rows, minlength=len(codes))
    return {
        "indptr": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "indices": features.astype(np.int32),
        "values": codes[rows, features],
    }
