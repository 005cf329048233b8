"""What one feature looks like: when it fires, where it is written, which answers it speaks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from jaxtyping import Float64, Int64

from ..kernel import Transformer
from ._crosscoder import Crosscoder
from ._encoded import EncodedDataset
from ._errors import CrosscoderError

_BINS: Final = 24


class TopInput(NamedTuple):
    """An input that fires a feature."""

    tokens: tuple[int, ...]
    position: int
    label: int
    value: float


@final
@dataclass(frozen=True, eq=False)
class FeatureView:
    """One feature over a data set of N inputs."""

    feature: int
    inputs: int
    """N."""
    fires: int
    """Inputs in which it is active."""
    mean: float
    """Of its code, where it is active; 0 if it never is."""
    largest: float
    histogram: Int64[np.ndarray, " b"]
    """Inputs by its code, where it is active."""
    edges: Float64[np.ndarray, " b+1"]
    """Of the histogram's bins."""
    top: tuple[TopInput, ...]
    """Where it is most active, different inputs, the strongest first."""
    labels: Int64[np.ndarray, " x"]
    """Inputs of each label in which it is active."""
    labels_of_all: Int64[np.ndarray, " x"]
    """Inputs of each label."""
    sites: tuple[str, ...]
    norms: Float64[np.ndarray, " L"]
    """Length of its direction at each site that is written, raw units."""
    logits: Float64[np.ndarray, " x"] | None
    """What a code of 1 adds to the logits through the last site, less the mean over outputs; None
    if the crosscoder does not write ``hook_resid_post`` of the last layer."""

    @property
    def frequency(self) -> float:
        """Share of inputs in which it is active."""
        return self.fires / self.inputs if self.inputs else 0.0

    @property
    def main_label(self) -> int | None:
        """The label of most inputs in which it is active; None if it never is."""
        return int(np.argmax(self.labels)) if self.fires else None


def describe_features(
    net: Transformer,
    crosscoder: Crosscoder,
    dataset: EncodedDataset,
    features: Sequence[int] | None = None,
    *,
    top: int = 10,
) -> tuple[FeatureView, ...]:
    """Views of some features (None: of all), in that order; ``top`` inputs of each at most.

    Raises CrosscoderError for a feature out of range, and a data set of another number of features.
    Cost: a sort of the codes.
    """
    n_features = crosscoder.config.d_sae
    if dataset.d_sae != n_features:
        raise CrosscoderError(
            f"the data set is in {dataset.d_sae} features, but the crosscoder has {n_features}"
        )
    wanted = range(n_features) if features is None else features
    for feature in wanted:
        if not 0 <= feature < n_features:
            raise CrosscoderError(f"feature {feature} is not one of 0 to {n_features - 1}")
    own = crosscoder.fold()
    names = [site.name for site in own.config.written_sites]
    norms = np.linalg.norm(own.W_dec.astype(np.float64), axis=2)
    last = f"blocks.{len(net.blocks) - 1}.hook_resid_post"
    logits = own.W_dec[:, names.index(last)] @ net.W_U if last in names else None
    order = np.argsort(dataset.indices, kind="stable")
    begins = np.searchsorted(dataset.indices[order], np.arange(n_features + 1))
    row_of = np.repeat(np.arange(len(dataset)), dataset.active())
    of_all = np.bincount(dataset.label, minlength=dataset.d_vocab_out)
    views = []
    for feature in wanted:
        places = order[begins[feature] : begins[feature + 1]]
        values, rows = dataset.values[places].astype(np.float64), row_of[places]
        counts, edges = np.histogram(values, _BINS, (0.0, float(values.max(initial=0.0)) or 1.0))
        views.append(
            FeatureView(
                feature=int(feature),
                inputs=len(dataset),
                fires=len(places),
                mean=float(values.mean()) if len(values) else 0.0,
                largest=float(values.max(initial=0.0)),
                histogram=counts.astype(np.int64),
                edges=edges,
                top=_top(dataset, rows, values, top),
                labels=np.bincount(dataset.label[rows], minlength=len(of_all)),
                labels_of_all=of_all,
                sites=tuple(names),
                norms=norms[feature],
                logits=None if logits is None else logits[feature] - logits[feature].mean(),
            )
        )
    return tuple(views)


def _top(
    dataset: EncodedDataset,
    rows: Int64[np.ndarray, " f"],
    values: Float64[np.ndarray, " f"],
    most: int,
) -> tuple[TopInput, ...]:
    """The inputs with the largest codes, the earlier one first among equals, none twice."""
    found: dict[tuple[tuple[int, ...], int], TopInput] = {}
    for n in np.argsort(-values, kind="stable"):
        if len(found) == most:
            break
        row = int(rows[n])
        tokens, position = tuple(dataset.token_ids[row].tolist()), int(dataset.position[row])
        one = TopInput(tokens, position, int(dataset.label[row]), float(values[n]))
        found.setdefault((tokens, position), one)
    return tuple(found.values())
