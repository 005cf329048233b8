"""Files as the forks of dictionary_learning write them, and what those compute."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crosscoder_examples import SITES, D, H, acts, close_to, of_seed
from safetensors.torch import save_file

from compactproofs.crosscoders import (
    CrosscoderError,
    import_dictionary_learning,
    load_crosscoder,
    save_crosscoder,
)


def _dictionary(
    path: Path, settings: dict[str, Any], batch_topk: bool, hub: bool = True
) -> dict[str, Any]:
    state = {
        "encoder.weight": of_seed(0, 4, D, H),
        "encoder.bias": of_seed(2, H),
        "decoder.weight": of_seed(1, 4, H, D),
        "decoder.bias": of_seed(3, 4, D),
    }
    if batch_topk:
        state |= {"threshold": torch.tensor(6.0), "k": torch.tensor(3, dtype=torch.int)}
    (path / "config.json").write_text(json.dumps(settings))
    if hub:
        save_file(state, path / "model.safetensors")
    else:
        torch.save(state, path / "ae.pt")
    return state


def _their_codes(state: dict[str, Any], given: np.ndarray, weights: torch.Tensor) -> torch.Tensor:
    h = torch.einsum("nld,ldh->nh", torch.tensor(given), state["encoder.weight"])
    f = torch.relu(h + state["encoder.bias"])
    return f * (f * weights > state["threshold"]) if "threshold" in state else f


@pytest.mark.parametrize("hub", [True, False])
@pytest.mark.parametrize("batch_topk", [True, False])
def test_dictionary_learning_computes_what_it_did(
    tmp_path: Path, batch_topk: bool, hub: bool
) -> None:
    state = _dictionary(tmp_path, {"activation_dim": D, "dict_size": H}, batch_topk, hub)
    mine = load_crosscoder(
        save_crosscoder(tmp_path / "imported", import_dictionary_learning(tmp_path, SITES))
    )
    expected = ("batchtopk_crosscoder", 3) if batch_topk else ("l1_crosscoder", None)
    assert (mine.config.architecture, mine.config.k) == expected
    given = acts(30)
    codes = _their_codes(state, given, state["decoder.weight"].norm(dim=2).sum(dim=0))
    assert 0 < (codes > 0).float().mean() < 1
    close_to(mine.encode(given), codes)
    out = torch.einsum("nh,lhd->nld", codes, state["decoder.weight"]) + state["decoder.bias"]
    close_to(mine.decode(mine.encode(given)), out)


@pytest.mark.parametrize("by_id", [True, False])
@pytest.mark.parametrize("name", ["CROSSCODER", "SAE", "MIXED", "NONE"])
def test_code_normalisations_weigh_the_scores(tmp_path: Path, name: str, by_id: bool) -> None:
    settings: dict[str, Any] = {"code_normalization_alpha_sae": 0.5}
    if not by_id:
        settings["code_normalization"] = name
    state = _dictionary(tmp_path, settings, True)
    if by_id:
        number = 1 + ["CROSSCODER", "SAE", "MIXED", "NONE"].index(name)
        state["code_normalization_id"] = torch.tensor(number)
        save_file(state, tmp_path / "model.safetensors")
    norms = state["decoder.weight"].norm(dim=2)
    both = (norms.square().sum(dim=0).sqrt(), norms.sum(dim=0))
    weights = {
        "CROSSCODER": both[1],
        "SAE": both[0],
        "MIXED": 0.5 * both[0] + 0.1 * both[1],
        "NONE": torch.ones(H),
    }[name]
    mine = import_dictionary_learning(tmp_path, SITES)
    close_to(mine.feature_weights(), weights)
    close_to(mine.encode(acts()), _their_codes(state, acts(), weights))


def test_settings_of_a_trainer_are_read_too(tmp_path: Path) -> None:
    trainer = {"dict_class": "BatchTopKCrossCoder", "k": 5, "code_normalization": "NONE"}
    state = _dictionary(tmp_path, {"trainer": trainer, "buffer": {}}, True, hub=False)
    del state["k"]
    torch.save(state, tmp_path / "ae.pt")
    mine = import_dictionary_learning(tmp_path, SITES)
    assert (mine.config.k, mine.config.score) == (5, "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": torch.tensor(-1.0)}, "never estimated it"),
        ({"threshold": torch.ones(4)}, "tensor 'threshold' has shape"),
        ({"code_normalization_id": torch.tensor(5)}, "code_normalization 5 is not supported"),
        ({"code_normalization_id": torch.tensor(9)}, "code_normalization 9 is not supported"),
        ({"k": torch.tensor(H + 1)}, f"k = {H + 1} is more than"),
        ({"decoder.weight": of_seed(1, 2, H, D)}, "tensor 'decoder.weight' has shape"),
        ({"activation_normalizer.mean": torch.ones(4, D)}, "is unknown"),
    ],
)
def test_dictionaries_that_cannot_be_represented_are_refused(
    tmp_path: Path, change: dict[str, torch.Tensor], message: str
) -> None:
    state = _dictionary(tmp_path, {}, True)
    save_file({**state, **change}, tmp_path / "model.safetensors")
    with pytest.raises(CrosscoderError, match=message):
        import_dictionary_learning(tmp_path, SITES)


def test_a_threshold_may_be_given_in_place_of_the_stored_one(tmp_path: Path) -> None:
    state = _dictionary(tmp_path, {}, True)
    state["threshold"] = torch.tensor(-1.0)
    save_file(state, tmp_path / "model.safetensors")
    mine = import_dictionary_learning(tmp_path, SITES, threshold=2.5)
    assert mine.threshold is not None and float(mine.threshold) == 2.5
