"""The training loop.

Notation: n samples of this process, L sites, d width, H features.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Int64

from ... import __version__
from ...training._torch import one_thread
from .._config import BATCHTOPK
from .._crosscoder import Crosscoder
from .._errors import CrosscoderError
from ._checkpoint import Checkpoint, load_checkpoint, require_destination, save_checkpoint
from ._drawing import Drawing, drawing_of
from ._forward import device_of
from ._interaction import Readout
from ._loss import aux_loss, errors, reconstruction, sparsity
from ._metrics import crosscoder_metrics
from ._proof_terms import ProofTerms, proof_terms_of
from ._ranks import Ranks, present_ranks
from ._revival import Served, is_due, resample
from ._selection import codes_of, estimated_threshold, smallest_kept
from ._settings import CrosscoderProgress, CrosscoderSettings
from ._sources import ActivationSource, Rows
from ._weights import (
    Masks,
    Normalisation,
    Weights,
    finished_crosscoder,
    initial_weights,
    masks_of,
    normalisation_of,
    unit_rows,
)

_TICK_EVERY = 50
_CALIBRATION_ROWS = 100_000
_AT_ONCE = 8192


def train_crosscoder(
    source: ActivationSource,
    settings: CrosscoderSettings,
    tick: Callable[[CrosscoderProgress], None] | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    readout: Readout | None = None,
) -> Crosscoder:
    """Train a crosscoder on a source of activations; its weights take and give raw units.

    tick: called every 50 steps and at the end; it only reports, and may raise to stop.
    checkpoint_dir: where the run is kept every ``settings.checkpoint_every`` steps and at the end,
    then with ``metrics.json``; resume: go on from what is there, if anything is.
    readout: the MLP of ``settings.penalty`` and ``settings.certificate``, for a source that is not
    a `TransformerSource`.

    On a CPU equal settings and sources give equal weights, bit for bit, with one build of torch and
    one kind of CPU, also if the run was interrupted and resumed; on a CUDA device they need not.
    Where ``torch.distributed`` is initialised each process takes its part of every batch, and all
    return the same crosscoder up to rounding; the first writes the checkpoints.

    Raises CrosscoderError for settings that do not fit the source, for a device that torch cannot
    use and for a checkpoint of another run; FloatingPointError when training diverges.
    Cost: about 5 n L d H multiply-adds a step of n samples, without the terms for proofs.
    """
    ranks = present_ranks()
    ranks.require_divides("batch", settings.batch)
    _require_fits(source, settings)
    there = checkpoint_dir is not None and require_destination(checkpoint_dir, resume=resume)
    device = device_of(settings.device)
    with one_thread():
        run = _begin(source, settings, ranks, device, readout)
        if there and checkpoint_dir is not None:
            _restore(run, load_checkpoint(checkpoint_dir, settings, source))
        _descend(run, tick, checkpoint_dir)
        crosscoder = _finish(run)
        if checkpoint_dir is not None and ranks.rank == 0:
            metrics = crosscoder_metrics(crosscoder, source, first_row=run.drawing.first_held_out)
            save_checkpoint(checkpoint_dir, _state(run), settings, source, metrics)
        ranks.wait()
        return crosscoder


@final
@dataclass(eq=False)
class _Run:
    """Everything that a step reads, and what it changes: weights, optimiser, and the last three."""

    source: ActivationSource
    settings: CrosscoderSettings
    drawing: Drawing
    ranks: Ranks
    device: torch.device
    masks: Masks
    read: Normalisation
    written: Normalisation
    proof: ProofTerms
    weights: Weights
    optimiser: torch.optim.Adam
    idle: Int64[torch.Tensor, " H"]
    """Steps since each feature fired."""
    threshold: Float[torch.Tensor, ""]
    """Moving average of the smallest kept score; negative before the first."""
    step: int = 0


class _Stepped(NamedTuple):
    loss: torch.Tensor
    error: Float[torch.Tensor, "n L d"]
    codes: Float[torch.Tensor, "n H"]
    y: Float[torch.Tensor, "n L d"]
    penalty: torch.Tensor
    certificate: torch.Tensor


def _begin(
    source: ActivationSource,
    settings: CrosscoderSettings,
    ranks: Ranks,
    device: torch.device,
    readout: Readout | None,
) -> _Run:
    drawing = drawing_of(settings, source)
    if drawing.trained < settings.features and settings.initial == "data":
        raise CrosscoderError(
            f"{drawing.trained} rows are fewer than features = {settings.features}; "
            "lower it, or take initial='uniform'"
        )
    masks = masks_of(settings, source)
    sample = _sampled(source, drawing, device)
    read = normalisation_of(settings, sample.activations)
    written = normalisation_of(settings, sample.targets) if source.output_sites else read
    x = read.apply(sample.activations)
    y = written.apply(sample.targets) if source.output_sites else x
    picked = drawing.distinct(drawing.generator(0, "initial"), settings.features)
    first = _on(device, source.rows(picked))
    weights = initial_weights(
        settings,
        x,
        y,
        (read.apply(first.activations), written.apply(first.targets)),
        masks,
        _derived_seed(settings.seed, "weights"),
    )
    optimiser = torch.optim.Adam(
        weights.tensors(), lr=settings.learning_rate, betas=(0.9, 0.99), fused=True
    )
    for tensor in weights.tensors():
        # Made now, so that a checkpoint is read into what is there.
        optimiser.state[tensor] = {
            "step": torch.zeros((), device=device),
            "exp_avg": torch.zeros_like(tensor),
            "exp_avg_sq": torch.zeros_like(tensor),
        }
    return _Run(
        source=source,
        settings=settings,
        drawing=drawing,
        ranks=ranks,
        device=device,
        masks=masks,
        read=read,
        written=written,
        proof=proof_terms_of(settings, source, readout, ranks, device),
        weights=weights,
        optimiser=optimiser,
        idle=torch.zeros(settings.features, dtype=torch.int64, device=device),
        threshold=torch.tensor(-1.0, device=device),
    )


def _descend(
    run: _Run,
    tick: Callable[[CrosscoderProgress], None] | None,
    checkpoint_dir: str | os.PathLike[str] | None,
) -> None:
    settings = run.settings
    while run.step < settings.steps:
        stepped = _advance(run)
        at_end = run.step == settings.steps
        if run.step % _TICK_EVERY == 0 or at_end:
            progress = _progress(run, stepped)
            if not np.isfinite(progress.loss):
                raise FloatingPointError(
                    f"training diverged: learning_rate={settings.learning_rate} gave a loss that "
                    "is not finite; lower it"
                )
            if tick is not None:
                tick(progress)
        due = run.step % settings.checkpoint_every == 0 and not at_end
        if checkpoint_dir is not None and due and run.ranks.rank == 0:
            save_checkpoint(checkpoint_dir, _state(run), settings, run.source)
    if not all(bool(torch.isfinite(one).all()) for one in run.weights.tensors()):
        raise FloatingPointError(
            f"training diverged: learning_rate={settings.learning_rate} gave weights that are not "
            "finite; lower it"
        )


def _advance(run: _Run) -> _Stepped:
    settings, weights, ranks = run.settings, run.weights, run.ranks
    picked = run.drawing.of_step(run.step, settings.batch)[ranks.part(settings.batch)]
    rows = _on(run.device, run.source.rows(picked))
    x = run.read.apply(rows.activations)
    y = run.written.apply(rows.targets) if run.source.output_sites else x
    h = weights.pre_activations(x)
    codes = codes_of(settings, weights, h, ranks)
    error = errors(weights, codes, y)
    dead = run.idle >= settings.revival.dead_after
    loss = reconstruction(error) + sparsity(settings, weights, h, codes, run.step / settings.steps)
    aux = aux_loss(settings.revival, weights, h, error, dead, ranks)
    loss = loss + settings.revival.aux_weight * aux
    proof = run.proof.of_batch(weights, run.read, codes, rows, run.step / settings.steps)
    loss = loss + proof.weighted
    for group in run.optimiser.param_groups:
        group["lr"] = settings.learning_rate * _rate(settings, run.step)
    run.optimiser.zero_grad(set_to_none=False)
    loss.backward()
    _step(run)
    fired = ranks.largest((codes.detach() > 0).any(dim=0).to(torch.int64))
    run.idle = torch.where(fired > 0, 0, run.idle + 1)
    _follow_threshold(run, codes)
    run.step += 1
    if is_due(settings.revival, run.step, settings.steps):
        badness = error.detach().square().sum(dim=(1, 2)) + proof.badness
        dead = run.idle >= settings.revival.dead_after
        drawn = run.drawing.generator(run.step, "revival")
        moved = resample(
            weights, run.optimiser, dead, Served(x, y, badness), run.masks, ranks, drawn
        )
        run.idle = torch.where(moved, 0, run.idle)
    return _Stepped(
        loss.detach(), error.detach(), codes.detach(), y, proof.penalty, proof.certificate
    )


def _step(run: _Run) -> None:
    weights, settings = run.weights, run.settings
    gradients = [tensor.grad for tensor in (weights.W_enc, weights.W_dec)]
    if gradients[0] is not None and gradients[1] is not None:
        run.masks.apply(gradients[0], gradients[1])
    run.ranks.average_gradients(weights.tensors())
    torch.nn.utils.clip_grad_norm_(weights.tensors(), settings.clip)
    run.optimiser.step()
    if settings.unit_decoder:
        with torch.no_grad():
            weights.W_dec.copy_(unit_rows(weights.W_dec))


def _follow_threshold(run: _Run, codes: Float[torch.Tensor, "n H"]) -> None:
    ema = run.settings.threshold_ema
    if run.settings.architecture != BATCHTOPK or ema is None:
        return
    least = smallest_kept(codes, run.weights.scores(run.settings.score), run.ranks)
    if not bool(torch.isfinite(least)):
        return
    run.threshold = least if float(run.threshold) < 0 else ema * run.threshold + (1 - ema) * least


def _rate(settings: CrosscoderSettings, step: int) -> float:
    """The share of the learning rate that is used in a step, counted from 0."""
    rate = min(1.0, (step + 1) / max(1, settings.warm_up))
    left = (settings.steps - step) / settings.steps
    if settings.decay > 0:
        rate *= min(1.0, left / settings.decay)
    certificate = settings.certificate
    if certificate is not None and step >= certificate.start * settings.steps:
        rate *= certificate.rate
    return rate


def _progress(run: _Run, stepped: _Stepped) -> CrosscoderProgress:
    ranks = run.ranks
    mean = ranks.mean(stepped.y.mean(dim=0))
    variance = ranks.mean((stepped.y - mean).square().sum(dim=(1, 2)).mean())
    missed = ranks.mean(stepped.error.square().sum(dim=(1, 2)).mean())
    return CrosscoderProgress(
        step=run.step,
        steps=run.settings.steps,
        loss=float(ranks.mean(stepped.loss)),
        fvu=float(missed / torch.clamp(variance, min=torch.finfo(variance.dtype).tiny)),
        l0=float(ranks.mean((stepped.codes > 0).sum(dim=1).to(torch.float32).mean())),
        dead=int((run.idle >= run.settings.revival.dead_after).sum()),
        penalty=float(ranks.mean(stepped.penalty)),
        certificate=float(ranks.mean(stepped.certificate)),
    )


def _finish(run: _Run) -> Crosscoder:
    settings = run.settings
    threshold: float | None = None
    if settings.architecture == BATCHTOPK:
        threshold = float(run.threshold)
        if settings.threshold_ema is None or threshold < 0:
            threshold = _held_out_threshold(run)
    metadata: dict[str, Any] = {
        "trainer": f"compactproofs {__version__}",
        "settings": settings.stated(),
        "source": run.source.stated(),
    }
    return finished_crosscoder(
        settings,
        run.source,
        run.weights,
        run.read,
        run.written,
        run.masks,
        threshold,
        metadata,
    )


def _held_out_threshold(run: _Run) -> float:
    first = run.drawing.first_held_out
    n = len(run.source) - first
    indices = first + np.linspace(0, n - 1, min(n, _CALIBRATION_ROWS)).astype(np.int64)
    weight = run.weights.scores(run.settings.score)
    scores = []
    with torch.no_grad():
        for begin in range(0, len(indices), _AT_ONCE):
            rows = _on(run.device, run.source.rows(indices[begin : begin + _AT_ONCE]))
            h = run.weights.pre_activations(run.read.apply(rows.activations))
            scores.append(torch.relu(h) * weight)
    return estimated_threshold(torch.cat(scores), run.settings.k or run.settings.features)


def _state(run: _Run) -> Checkpoint:
    tensors = dict(run.weights.named())
    for name, tensor in run.weights.named():
        for what, value in run.optimiser.state[tensor].items():
            tensors[f"adam.{what}.{name}"] = value
    tensors |= {"idle": run.idle, "threshold_ema": run.threshold}
    return Checkpoint(run.step, tensors)


def _restore(run: _Run, checkpoint: Checkpoint) -> None:
    ours = _state(run).tensors
    for name, tensor in ours.items():
        stored = checkpoint.tensors.get(name)
        if stored is None or stored.shape != tensor.shape or stored.dtype != tensor.dtype:
            raise CrosscoderError(
                f"the checkpoint's tensor {name!r} is missing or of another shape"
            )
        with torch.no_grad():
            tensor.copy_(stored)
    run.step = checkpoint.step


def _sampled(source: ActivationSource, drawing: Drawing, device: torch.device) -> Rows:
    """Rows to calibrate on: all that are trained on, or 100,000 of them."""
    indices = np.arange(drawing.trained)
    if drawing.trained > _CALIBRATION_ROWS:
        indices = drawing.rows(drawing.generator(0, "calibration"), _CALIBRATION_ROWS)
    parts = [
        _on(device, source.rows(indices[begin : begin + _AT_ONCE]))
        for begin in range(0, len(indices), _AT_ONCE)
    ]
    return Rows(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _on(device: torch.device, rows: Rows) -> Rows:
    return Rows(*(column.to(device) for column in rows))


def _require_fits(source: ActivationSource, settings: CrosscoderSettings) -> None:
    is_clt = settings.architecture == "clt"
    if is_clt != bool(source.output_sites):
        raise CrosscoderError(
            f"architecture {settings.architecture!r} with {len(source.output_sites)} output sites: "
            "a clt needs a source with output_sites, and nothing else takes one"
        )


def _derived_seed(seed: int, label: str) -> int:
    # Hashed apart, so that neighbouring seeds share neither weights nor data.
    digest = hashlib.sha256(f"{seed}:{label}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
