"""A torch model behind a gate: what is handed out, and which models are refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from compactproofs.gate._gate import Gate
from compactproofs.gate._gated_model import (
    Admitted,
    GatedModel,
    GatedModelError,
    Refused,
    network_of,
)
from compactproofs.kernel import load_transformer
from compactproofs.kernel.gate import SiteGroup, Sites, last_block
from transformers_for_tests import float_forward, random_transformer, write_transformer

SITES = Sites((SiteGroup("x", "input", 3), SiteGroup("pre1", "pre", 5)), "pre1", 1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    linear = torch.nn.Linear
    return torch.nn.Sequential(linear(3, 5), torch.nn.ReLU(), linear(5, 4), torch.nn.ReLU(),
                               linear(4, 3))  # fmt: skip


@pytest.fixture
def gate(model: torch.nn.Sequential, tmp_path: Path) -> Iterator[Gate]:
    with Gate.create(tmp_path / "gate", network_of(model), SITES, rho="1/10") as made:
        yield made


def test_an_output_is_handed_out_only_with_the_verdict_of_its_own_run(
    model: torch.nn.Sequential, gate: Gate
) -> None:
    gated = GatedModel(gate, model)
    x = torch.randn(6, 3)
    assert all(isinstance(outcome, Refused) for outcome in gated(x))
    logits, seen = gated.run(x[:2])
    assert torch.equal(logits, model(x[:2]))
    assert np.array_equal(seen.h[:, :3], x[:2].numpy())
    assert np.allclose(seen.h[:, 3:], model[0](x[:2]).detach().numpy())
    gate.record(seen, signer="us")
    outcomes = gated(torch.cat([x[:2], x[:1] + 1e-6]))
    assert [type(outcome) for outcome in outcomes] == [Admitted, Admitted, Refused]
    first, last = outcomes[0], outcomes[2]
    assert isinstance(first, Admitted) and torch.equal(first.output, logits[0])
    assert first.verdict.warrants["record"].kind == "SIGNED"
    assert not hasattr(last, "output") and last.verdict.reasons


def test_other_weights_are_refused_whenever_they_change(
    model: torch.nn.Sequential, gate: Gate
) -> None:
    gated = GatedModel(gate, model)
    layer = model[2]
    assert isinstance(layer, torch.nn.Linear)
    with torch.no_grad():
        layer.weight[0, 0] += 1
    with pytest.raises(GatedModelError, match="load the weights that the gate was built on"):
        gated(torch.zeros(1, 3))
    with pytest.raises(GatedModelError, match="digest"):
        GatedModel(gate, model)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(gate.network.layers[1].W.T))
    assert len(gated(torch.zeros(2, 3))) == 2
    layer.weight = torch.nn.Parameter(layer.weight.detach() + 1)
    with pytest.raises(GatedModelError, match="digest"):
        gated(torch.zeros(1, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_that_no_certificate_covers_is_refused(
    dtype: torch.dtype, model: torch.nn.Sequential, gate: Gate
) -> None:
    gated = GatedModel(gate, model)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(GatedModelError, match="autocast"):
        gated(torch.zeros(1, 3))
    with pytest.raises(GatedModelError, match="float32"):
        GatedModel(gate, model.to(dtype))


def test_a_double_precision_copy_is_the_same_network(
    model: torch.nn.Sequential, gate: Gate
) -> None:
    gated = GatedModel(gate, model.double())
    assert len(gated(torch.zeros(2, 3, dtype=torch.float64))) == 2


def test_captures_must_be_what_they_are_named(model: torch.nn.Sequential, gate: Gate) -> None:
    for captures, message in (
        ({"pre1": "9"}, "no sub-module"),
        ({"pre2": "0"}, "groups of sites are x, pre1"),
    ):
        with pytest.raises(GatedModelError, match=message):
            GatedModel(gate, model, captures)
    with pytest.raises(GatedModelError, match="not \\[4, 5\\]"):
        GatedModel(gate, model, {"pre1": "2"})(torch.ones(4, 3))
    assert len(GatedModel(gate, model, {"pre1": "in:1", "x": "in:0"})(torch.ones(4, 3))) == 4


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([torch.nn.Linear(3, 3), torch.nn.GELU(), torch.nn.Linear(3, 3)], "module 1 is a GELU"),
        ([torch.nn.Linear(3, 3), torch.nn.ReLU()], "last module"),
        ([torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)], "module 1 is a Linear"),
    ],
)
def test_a_sequence_of_other_modules_is_no_network(
    modules: list[torch.nn.Module], message: str
) -> None:
    with pytest.raises(GatedModelError, match=message):
        network_of(torch.nn.Sequential(*modules))
    with pytest.raises(GatedModelError, match="unembed.W_U"):
        network_of(torch.nn.Linear(3, 3))


class Hooked(torch.nn.Module):
    """The last MLP of a transformer under its names; its input is the residual before that."""

    def __init__(self, state: dict[str, np.ndarray], normed: bool) -> None:
        super().__init__()
        self.normed = normed
        for name in state:
            *path, leaf = name.split(".")
            owner: torch.nn.Module = self
            for part in path:
                if not hasattr(owner, part):
                    owner.add_module(part, torch.nn.Module())
                owner = owner.get_submodule(part)
            values = torch.tensor(state[name], dtype=torch.float32)
            owner.register_parameter(leaf, torch.nn.Parameter(values))
        self.get_submodule("blocks.0").add_module("hook_resid_mid", torch.nn.Identity())

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        t = dict(self.named_parameters())
        mid = self.get_submodule("blocks.0.hook_resid_mid")(stream)
        hidden = (mid @ t["blocks.0.mlp.W_in"] + t["blocks.0.mlp.b_in"]).relu()
        post = mid + hidden @ t["blocks.0.mlp.W_out"] + t["blocks.0.mlp.b_out"]
        post = torch.nn.functional.layer_norm(post, post.shape[-1:]) if self.normed else post
        return post @ t["unembed.W_U"] + t["unembed.b_U"]


def test_a_transformer_is_gated_at_its_last_mlp(tmp_path: Path) -> None:
    net = random_transformer(np.random.default_rng(0), k=2, v=3, layers=1, mlp=4)
    block = net.blocks[0]
    state = {
        f"blocks.0.mlp.{name}": getattr(block, name) for name in "W_in b_in W_out b_out".split()
    }
    state |= {"unembed.W_U": net.W_U, "unembed.b_U": net.b_U}
    model = Hooked(state, normed=False)
    stored = load_transformer(write_transformer(tmp_path / "net", net))
    network = last_block(stored)
    assert network_of(model).sha256 == network.sha256
    sites = Sites((SiteGroup("mid", "pre", net.d_model),), "mid", 0)
    tokens = np.array([[a, b] for a in range(3) for b in range(3)])
    found = float_forward(net, tokens)
    stream = torch.tensor(found["blocks.0.hook_resid_mid"], dtype=torch.float32)
    with Gate.create(tmp_path / "gate", network, sites, rho="1/10") as gate:
        gated = GatedModel(gate, model)
        logits, seen = gated.run(stream)
        assert np.allclose(logits.numpy(), found["logits"], atol=1e-4)
        assert seen.h.shape == (9, net.d_model)
        gate.record(seen, signer="us")
        assert all(isinstance(outcome, Admitted) for outcome in gated(stream))
        with pytest.raises(GatedModelError, match="does something else after the cut"):
            GatedModel(gate, Hooked(state, normed=True))(stream)
