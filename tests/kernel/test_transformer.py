"""Transformers of several layers and heads with MLPs: reading, digest, and the forward pass."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compactproofs.kernel import (
    MaxOfK,
    ModelError,
    load_model,
    load_network,
    load_transformer,
)
from compactproofs.kernel import Model as KernelModel
from compactproofs.kernel._ledger import Ledger
from compactproofs.kernel._network import logits, sequences
from random_models import random_model
from transformers_for_tests import float_logits, random_transformer, write_transformer

FIXTURES = Path(__file__).parent.parent / "fixtures" / "models"


@pytest.mark.parametrize("name", ["tl3-twohead", "tl3-base", "tl3-attnscale", "tl3-noscale"])
def test_logits_agree_with_those_of_transformer_lens(name: str) -> None:
    net = load_transformer(FIXTURES / name)
    recorded = json.loads((FIXTURES / name / "logits.json").read_text())
    tokens, expected = np.array(recorded["tokens"]), np.array(recorded["logits"])
    got = logits(net, tokens, Ledger())
    scale = np.abs(expected).max()
    assert np.abs(got.mid - expected).max() < 1e-5 * scale
    assert got.rad.max() < 1e-9 * scale


@pytest.mark.parametrize("layers, heads, mlp", [(1, 1, 0), (1, 2, 5), (2, 1, 6), (3, 2, 4)])
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_enclosures_contain_an_independent_forward_pass(
    layers: int, heads: int, mlp: int, direction: str
) -> None:
    rng = np.random.default_rng(layers * 100 + heads * 10 + mlp)
    for _ in range(5):
        net = random_transformer(
            rng, k=3, v=4, layers=layers, heads=heads, mlp=mlp, direction=direction
        )
        tokens = sequences(MaxOfK(3, 4), 0, 64)
        got = logits(net, tokens, Ledger())
        expected = float_logits(net, tokens)
        room = 1e-10 * (1 + np.abs(expected).max())
        assert (np.abs(got.mid - expected) <= got.rad + room).all()
        assert got.rad.max() < 1e-4 * (1 + np.abs(expected).max())


def test_a_model_and_its_transformer_have_one_digest_and_one_function() -> None:
    rng = np.random.default_rng(5)
    model = random_model(rng, k=3, v=4, d=5, h=3, biases=True)
    net = model.as_transformer()
    assert net.sha256 == model.sha256
    assert isinstance(load_network(FIXTURES / "tl3-base"), KernelModel)
    assert (
        load_transformer(FIXTURES / "tl3-base").sha256 == load_model(FIXTURES / "tl3-base").sha256
    )


def test_every_number_enters_the_digest(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    net = random_transformer(rng, k=3, v=4, layers=2, heads=2, mlp=3)
    digests = {net.sha256}
    for number, block in enumerate(net.blocks):
        for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"):
            digests.add(_nudged(net, number, name).sha256)
        for name in ("W_in", "b_in", "W_out", "b_out"):
            digests.add(_nudged(net, number, name).sha256)
        assert block.d_mlp == 3
    for name in ("W_E", "W_pos", "W_U", "b_U"):
        digests.add(replace(net, **{name: getattr(net, name) + 1.0}).sha256)
    digests.add(replace(net, attention_dir="bidirectional").sha256)
    digests.add(replace(net, score_divisor_squared=net.score_divisor_squared * 2).sha256)
    assert len(digests) == 1 + 2 * 12 + 4 + 2


def _nudged(net, number: int, name: str):
    block = net.blocks[number]
    values = np.array(getattr(block, name))
    values.reshape(-1)[-1] += 1.0
    blocks = list(net.blocks)
    blocks[number] = replace(block, **{name: values})
    return replace(net, blocks=tuple(blocks))


def test_written_and_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    net = random_transformer(rng, k=3, v=4, layers=2, heads=1, mlp=3)
    path = write_transformer(tmp_path / "net", net)
    again = load_transformer(path)
    assert again.sha256 == net.sha256
    with pytest.raises(ModelError, match="2 layers, 1 heads and an MLP of 3 neurons"):
        load_model(path)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"act_fn": "gelu"}, "act_fn = 'gelu' is not supported yet"),
        ({"act_fn": None}, "act_fn = None is not supported yet"),
        ({"d_mlp": 0}, "d_mlp = 0 must be a positive integer"),
        ({"d_mlp": True}, "d_mlp = True must be a positive integer"),
        ({"d_mlp": 4}, "has shape"),
        ({"n_layers": 1}, "unexpected tensor"),
        ({"n_layers": 3}, "is missing"),
        ({"n_layers": 1025}, "up to 1024 of each"),
        ({"attn_only": True}, "unexpected tensor"),
    ],
)
def test_configs_that_do_not_fit_are_refused(
    fields: dict[str, object], message: str, tmp_path: Path
) -> None:
    net = random_transformer(np.random.default_rng(8), k=3, v=4, layers=2, heads=1, mlp=3)
    path = write_transformer(tmp_path / "net", net)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | fields))
    with pytest.raises(ModelError, match=message):
        load_transformer(path)


def test_sequences_are_listed_once_each() -> None:
    task = MaxOfK(3, 4)
    listed = np.concatenate([sequences(task, a, min(a + 7, 64)) for a in range(0, 64, 7)])
    assert listed.tolist() == [[a, b, c] for a in range(4) for b in range(4) for c in range(4)]


def test_a_bias_that_no_digest_would_hold_is_refused() -> None:
    net = random_transformer(np.random.default_rng(9), k=2, v=3, mlp=0)
    block = net.blocks[0]
    with pytest.raises(ModelError, match="b_out is not zero in a block without neurons"):
        replace(block, b_out=np.ones_like(block.b_out))
