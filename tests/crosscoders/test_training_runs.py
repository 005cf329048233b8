import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_examples import LAST, clt_source, settings, sites, source, transformer

from compactproofs.crosscoders import Crosscoder, CrosscoderError
from compactproofs.crosscoders.training import (
    ActivationSource,
    CertificateLoss,
    CrosscoderProgress,
    Penalty,
    Readout,
    Rows,
    crosscoder_metrics,
    train_crosscoder,
)
from compactproofs.crosscoders.training._drawing import drawing_of


def _same(one: Crosscoder, other: Crosscoder) -> bool:
    pairs = zip(one.tensors(), other.tensors(), strict=True)
    return all(a == b and np.array_equal(x, y) for (a, x), (b, y) in pairs)


def _fvu(crosscoder: Crosscoder, of: ActivationSource) -> float:
    rows = of.rows(np.arange(len(of)))
    decoded = crosscoder.decode(crosscoder.encode(rows.activations.numpy()))
    target = rows.targets.numpy()
    missed = np.square(target - decoded).sum()
    return float(missed / np.square(target - target.mean(axis=0)).sum())


def test_a_run_reconstructs_and_reports() -> None:
    reports: list[CrosscoderProgress] = []
    of, chosen = source(), settings(steps=220)
    found = train_crosscoder(of, chosen, reports.append)
    assert [one.step for one in reports] == [50, 100, 150, 200, 220]
    assert reports[-1].l0 <= 3 and reports[-1].fvu < reports[0].fvu
    assert _fvu(found, of) < 0.12
    assert found.config.folded and found.config.model_sha256 == of.model_sha256
    assert found.config.metadata["settings"]["seed"] == 0
    assert found.config.metadata["source"]["task"] == "max:k=3,v=6"


def test_equal_settings_give_equal_weights_whatever_the_number_of_threads() -> None:
    chosen = settings(penalty=Penalty(0.1), certificate=CertificateLoss(1.0, start=0.5))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            found.append(train_crosscoder(source(), chosen))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert _same(*found)
    assert not _same(found[0], train_crosscoder(source(), settings(seed=1)))


@pytest.mark.parametrize(
    "changes",
    [
        {"penalty": Penalty(0.1), "certificate": CertificateLoss(1.0, start=0.5)},
        {"architecture": "batchtopk_crosscoder", "threshold_ema": 0.9},
        {"architecture": "jumprelu_crosscoder", "k": None, "sparsity": 1.0},
    ],
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    chosen = settings(checkpoint_every=20, steps=110, **changes)
    whole = train_crosscoder(source(), chosen)

    def stop(progress: CrosscoderProgress) -> None:
        if progress.step == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_crosscoder(source(), chosen, stop, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "checkpoint.json").read_text())["step"] == 40
    with pytest.raises(CrosscoderError, match="resume"):
        train_crosscoder(source(), chosen, None, tmp_path / "run")
    steps: list[int] = []
    resumed = train_crosscoder(
        source(), chosen, lambda now: steps.append(now.step), tmp_path / "run", resume=True
    )
    assert steps == [50, 100, 110] and _same(whole, resumed)
    again = train_crosscoder(source(), chosen, None, tmp_path / "run", resume=True)
    assert _same(whole, again)


def test_a_checkpoint_holds_metrics_and_no_pickle(tmp_path: Path) -> None:
    of = source()
    found = train_crosscoder(of, settings(), None, tmp_path / "run")
    names = {file.name for file in (tmp_path / "run").iterdir()}
    assert names == {"checkpoint.json", "checkpoint.safetensors", "metrics.json"}
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics == crosscoder_metrics(found, of)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    train_crosscoder(source(), settings(), None, tmp_path / "run")
    with pytest.raises(CrosscoderError, match="its seed is 0, here it is 1"):
        train_crosscoder(source(), settings(seed=1), None, tmp_path / "run", resume=True)
    with pytest.raises(CrosscoderError, match="its model_sha256 is"):
        train_crosscoder(source(1), settings(), None, tmp_path / "run", resume=True)
    weights = tmp_path / "run" / "checkpoint.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(CrosscoderError, match="checkpoint.safetensors"):
        train_crosscoder(source(), settings(), None, tmp_path / "run", resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="thesis.tex"):
        train_crosscoder(source(), settings(), None, tmp_path / "other")


def test_rare_labels_are_served_where_they_are_balanced() -> None:
    of = source()
    rows = of.rows(np.arange(len(of)))
    # 1 of 216 sequences has the largest token 0, and 91 the largest token 5.
    assert np.bincount(rows.label.numpy()).tolist() == [1, 7, 19, 37, 61, 91]
    drawing = drawing_of(settings(balance=1.0), of)
    drawn = np.concatenate([drawing.of_step(step, 600) for step in range(10)])
    counts = np.bincount(rows.label.numpy()[drawn])
    assert counts.min() > 0.8 * 1000 and counts.max() < 1.2 * 1000
    half = drawing_of(settings(balance=0.5), of).of_step(0, 6000)
    share = (rows.label.numpy()[half] == 0).mean()
    assert share == pytest.approx(0.5 / 6 + 0.5 / 216, abs=0.015)
    train_crosscoder(of, settings(balance=0.5))
    with pytest.raises(CrosscoderError, match="balance = 0.5 needs a source that knows the labels"):
        train_crosscoder(_Held(), settings(balance=0.5))


@pytest.mark.parametrize("score", ["sum", "none"])
def test_the_threshold_of_batchtopk_keeps_k_on_average(score: str) -> None:
    of = source()
    found = train_crosscoder(of, settings(architecture="batchtopk_crosscoder", score=score))
    codes = found.encode(of.rows(np.arange(len(of))).activations.numpy())
    assert (codes > 0).sum(axis=1).mean() == pytest.approx(3, abs=0.02)


def test_the_moving_average_is_near_the_estimated_threshold() -> None:
    chosen: dict[str, Any] = {"architecture": "batchtopk_crosscoder", "steps": 100}
    estimated = train_crosscoder(source(), settings(**chosen)).threshold
    averaged = train_crosscoder(source(), settings(threshold_ema=0.95, **chosen)).threshold
    assert estimated is not None and averaged is not None
    assert float(averaged) == pytest.approx(float(estimated), rel=0.3)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "l1_crosscoder", "k": None, "sparsity": 0.05, "unit_decoder": False},
        {"architecture": "jumprelu_crosscoder", "k": None, "sparsity": 0.05, "initial": "uniform"},
        {"mask": "weakly_causal"},
        {"reads": (LAST[1],)},
        {"normalize": "sqrt_d_over_mean_norm"},
        {"normalize": "none", "site_weights": (1.0, 4.0, 1.0)},
    ],
)
def test_every_kind_trains(changes: dict[str, Any]) -> None:
    of, chosen = source(), settings(steps=160, features=24, **changes)
    found = train_crosscoder(of, chosen)
    assert _fvu(found, of) < 0.4
    if "reads" in changes:
        assert found.config.mask == "custom" and found.enc_mask is not None
        assert found.enc_mask.tolist() == [[False, True, False]] * 24


def test_a_cross_layer_transcoder_trains() -> None:
    of = clt_source()
    chosen = settings(architecture="clt", mask="clt", steps=200, features=32, k=6)
    found = train_crosscoder(of, chosen)
    assert found.config.output_sites == of.output_sites and _fvu(found, of) < 0.4
    assert found.enc_mask is not None and found.enc_mask.sum(axis=0).tolist() == [16, 16]
    # A feature of the second layer writes nothing to the first.
    assert np.abs(found.W_dec[16:, 0]).max() == 0 and np.abs(found.W_dec[:16, 1]).max() > 0


@cache
def _interaction(
    penalty: Penalty | None = None, certificate: CertificateLoss | None = None
) -> dict[str, float]:
    of = source()
    found = train_crosscoder(of, settings(steps=120, penalty=penalty, certificate=certificate))
    return crosscoder_metrics(found, of)["interaction"]


@pytest.mark.parametrize("kind", ["interaction", "slack"])
def test_the_penalty_buys_less_interaction(kind: str) -> None:
    free, priced = _interaction(), _interaction(penalty=Penalty(1.0, kind))
    name = "interaction" if kind == "interaction" else "certified_slack"
    assert priced[name] < 0.7 * free[name]


def test_the_certificate_loss_buys_certified_margin() -> None:
    free = _interaction()
    trained = _interaction(certificate=CertificateLoss(3.0, start=0.0, rows=16))
    assert trained["certified_slack"] + trained["rho"] < free["certified_slack"] + free["rho"]


def test_penalties_work_at_all_positions_and_with_a_given_readout() -> None:
    every = source(positions="all")
    chosen = settings(penalty=Penalty(0.1, rows=16), certificate=CertificateLoss(1.0, start=0.0))
    reports: list[CrosscoderProgress] = []
    train_crosscoder(every, chosen, reports.append)
    assert reports[-1].penalty > 0 and reports[-1].certificate > 0
    of = source()
    readout = Readout.of(transformer())
    of.transformer = None
    given = train_crosscoder(of, chosen, readout=readout)
    assert _same(given, train_crosscoder(source(), chosen))


class _Held(ActivationSource):
    """Rows 0 .. 199 are ordinary, the last 50 are not numbers: training must not see them."""

    def __init__(self) -> None:
        self.sites, self.d, self.positions = sites(*LAST), 4, "all"
        drawn = np.random.default_rng(0)
        basis = drawn.normal(size=(6, 3, 4))
        codes = drawn.random((250, 6)) * (drawn.random((250, 6)) < 0.3)
        self.values = np.einsum("nh,hld->nld", codes, basis).astype(np.float32)
        self.touched: set[int] = set()

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, indices: np.ndarray) -> Rows:
        self.touched.update(indices.tolist())
        values = torch.from_numpy(self.values[indices])
        none = torch.full((len(indices),), -1)
        return Rows(values, values, torch.zeros((len(indices), 0), dtype=torch.int64), none, none)

    def stated(self) -> dict[str, Any]:
        return {"kind": "held"}


def test_rows_that_are_held_out_are_not_trained_on(tmp_path: Path) -> None:
    of = _Held()
    train_crosscoder(of, settings(held_out=0.2, normalize="none"))
    assert of.touched == set(range(200))
    train_crosscoder(of, settings(held_out=0.2), None, tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["held_out"] and metrics["rows"] == 50


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_crosscoder(source(), settings(device="tpu")), "device='tpu'"),
        (lambda: train_crosscoder(source(), settings(features=400)), "fewer than features = 400"),
        (lambda: train_crosscoder(source(), settings(reads=("x",))), "'x' is not one of"),
        (lambda: train_crosscoder(source(), settings(site_weights=(1.0,))), "1 entries for 3"),
        (lambda: train_crosscoder(clt_source(), settings()), "2 output sites"),
        (
            lambda: train_crosscoder(source(), settings(architecture="clt", mask="clt")),
            "0 output sites",
        ),
        (
            lambda: train_crosscoder(source(sites=sites(LAST[0])), settings(penalty=Penalty(1.0))),
            "no site with the role resid_mid",
        ),
        (lambda: train_crosscoder(_Held(), settings(penalty=Penalty(1.0))), "pass readout="),
        (
            lambda: train_crosscoder(
                source(layers=2, sites=sites(LAST[1])), settings(certificate=CertificateLoss(1.0))
            ),
            "not read by the last MLP",
        ),
        (lambda: settings(k=17), "k = 17 is more than features = 16"),
        (lambda: settings(k=None), "k is missing"),
        (lambda: settings(steps=0), "steps = 0"),
        (lambda: settings(clip=float("nan")), "clip = nan"),
        (lambda: settings(architecture="clt"), "the mask 'clt'"),
        (lambda: settings(mask="weakly_causal", reads=("x",)), "reads"),
        (lambda: settings(initial="zeros"), "initial = 'zeros'"),
        (lambda: settings(features=1 << 30, batch=1 << 10), "too large"),
        (lambda: CertificateLoss(1.0, rows=0), "certificate rows = 0"),
        (lambda: Penalty(1.0, "both"), "penalty kind = 'both'"),
    ],
)
def test_what_cannot_be_trained_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(CrosscoderError, match=message):
        call()


def test_divergence_is_said() -> None:
    with pytest.raises(FloatingPointError, match="lower it"):
        train_crosscoder(source(), settings(learning_rate=1e30, clip=1e30, unit_decoder=False))
