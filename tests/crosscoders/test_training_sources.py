import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_examples import LAST, TASK, clt_source, sites, source, transformer

from compactproofs.crosscoders import (
    ActivationStore,
    ActivationWriter,
    CrosscoderError,
    Site,
    StoreSettings,
)
from compactproofs.crosscoders.training import HookedSource, StoreSource, TransformerSource
from compactproofs.crosscoders.training._forward import Patch, TorchTransformer
from compactproofs.kernel import MaxOfK
from transformers_for_tests import float_forward, random_transformer


def test_importing_the_package_does_not_import_torch() -> None:
    code = (
        "import sys, compactproofs.crosscoders.training as t, compactproofs.cli._crosscoder_train\n"
        "t.CrosscoderSettings()\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import compactproofs.crosscoders.training as package

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = package.no_such_name


@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_activations_are_those_of_the_model(direction: str) -> None:
    net = random_transformer(
        np.random.default_rng(1), k=3, v=4, layers=2, heads=2, d=6, mlp=7, direction=direction
    )
    tokens = np.random.default_rng(2).integers(4, size=(9, 3))
    expected = float_forward(net, tokens)
    names = [name for name in expected if name != "logits"]
    passed = TorchTransformer(net, dtype=torch.float64)(torch.from_numpy(tokens), names)
    assert np.allclose(passed.logits.numpy(), expected["logits"])
    for name in names:
        assert np.allclose(passed.sites[name].numpy(), expected[name])


def test_rows_of_the_last_position_and_of_all_positions() -> None:
    net = transformer(layers=2)
    tokens = np.random.default_rng(0).integers(6, size=(5, 3))
    expected = float_forward(net, tokens)
    labels = tokens.max(axis=1)
    last = TransformerSource(net, tokens, labels)
    assert len(last) == 5 and [site.name for site in last.sites] == [
        *LAST,
        "blocks.1.hook_resid_mid",
        "blocks.1.hook_resid_post",
    ]
    rows = last.rows(np.array([4, 0]))
    assert rows.position.tolist() == [2, 2] and rows.label.tolist() == labels[[4, 0]].tolist()
    for place, site in enumerate(last.sites):
        values = rows.activations[:, place].numpy()
        assert np.allclose(values, expected[site.name][[4, 0], -1], atol=1e-5)
    every = TransformerSource(net, tokens, labels, positions="all")
    rows = every.rows(np.array([7, 2]))
    assert len(every) == 15 and rows.position.tolist() == [1, 2]
    assert rows.token_ids.tolist() == tokens[[2, 0]].tolist()
    values = rows.activations[:, 0].numpy()
    assert np.allclose(values, expected[LAST[0]][[2, 0], [1, 2]], atol=1e-5)


def test_rows_do_not_depend_on_whether_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    indices = np.array([5, 600, 5, 17])
    several: tuple[dict[str, Any], ...] = ({}, {"positions": "all"})
    for options in several:
        kept = source(**options)
        monkeypatch.setattr("compactproofs.crosscoders.training._sources._CACHED_NUMBERS", 0)
        computed = source(**options)
        monkeypatch.undo()
        wanted = indices % len(kept)
        for one, other in zip(kept.rows(wanted), computed.rows(wanted), strict=True):
            assert torch.allclose(one, other, atol=1e-6)


def test_all_sequences_of_a_task_or_a_sample() -> None:
    everything = source()
    tokens = everything.rows(np.arange(len(everything))).token_ids.numpy()
    assert everything.complete and len(np.unique(tokens, axis=0)) == len(tokens) == 216
    some = source(samples=50, seed=3)
    assert not some.complete and len(some) == 50
    assert (some.rows(np.arange(50)).label == some.rows(np.arange(50)).token_ids.amax(1)).all()
    assert (
        source(samples=50, seed=3)
        .rows(np.arange(50))
        .token_ids.equal(some.rows(np.arange(50)).token_ids)
    )


def test_output_sites_are_the_targets() -> None:
    two = clt_source()
    rows = two.rows(np.arange(4))
    expected = float_forward(transformer(layers=2), rows.token_ids.numpy())
    added = expected["blocks.1.hook_resid_post"] - expected["blocks.1.hook_resid_mid"]
    assert np.allclose(rows.targets[:, 1].numpy(), added[:, -1], atol=1e-5)
    read = expected["blocks.1.hook_resid_mid"][:, -1]
    assert np.allclose(rows.activations[:, 1].numpy(), read, atol=1e-5)


def test_a_patch_replaces_what_comes_after() -> None:
    net = transformer()
    tokens = torch.tensor([[1, 2, 3], [5, 0, 1]])
    model = TorchTransformer(net, dtype=torch.float64)
    clean = model(tokens, LAST)
    same = model(tokens, patch=Patch(LAST[1], clean.sites[LAST[1]][:, -1:]))
    assert torch.allclose(same.logits, clean.logits)
    zero = model(tokens, patch=Patch(LAST[2], torch.zeros(2, 1, 8)))
    assert torch.allclose(zero.logits, torch.tensor(net.b_U).expand(2, -1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: source(sites=sites("blocks.3.hook_resid_mid")), "blocks.3.hook_resid_mid"),
        (lambda: source(positions="first"), "positions = 'first'"),
        (lambda: TransformerSource.of_task(transformer(), MaxOfK(k=4, v=6)), "does not fit"),
        (
            lambda: TransformerSource.of_task(transformer(k=9, v=9), MaxOfK(k=9, v=9)),
            "give --samples",
        ),
        (lambda: source().rows(np.array([216])), "row 216"),
        (lambda: TransformerSource(transformer(), np.array([[0, 1, 6]]), np.array([1])), "0 to 6"),
        (lambda: TransformerSource(transformer(), np.array([[0, 1]]), np.array([1])), "2 tokens"),
        (
            lambda: TransformerSource(transformer(), np.zeros((2, 3), int), np.array([1])),
            "1 labels for 2",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(CrosscoderError, match=message):
        call()


class _Toy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(7, 4)
        self.layer = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
        self.unused = torch.nn.Linear(4, 4)
        self.head = torch.nn.Linear(4, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.embed(tokens)))


def _hooks(*names: str) -> dict[Site, str]:
    roles = ("resid_pre", "resid_mid", "resid_post")
    return {Site(name, role, 0): name for name, role in zip(names, roles, strict=False)}


@pytest.mark.parametrize("cached", [1 << 28, 0])
def test_hooks_of_any_module(cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compactproofs.crosscoders.training._hooked_source._CACHED_NUMBERS", cached)
    torch.manual_seed(0)
    toy, tokens = _Toy(), torch.randint(7, (6, 5))
    hooked = HookedSource(toy, tokens, _hooks("embed", "layer.0"), labels=torch.arange(6))
    assert len(hooked) == 30 and hooked.d == 4
    rows = hooked.rows(np.array([7, 29, 7]))
    with torch.no_grad():
        embedded = toy.embed(tokens)
        expected = torch.stack([embedded, toy.layer[0](embedded)], dim=2).flatten(0, 1)
    assert torch.allclose(rows.activations, expected[[7, 29, 7]], atol=1e-6)
    assert rows.position.tolist() == [2, 4, 2] and rows.label.tolist() == [1, 5, 1]
    assert rows.token_ids.equal(tokens[[1, 5, 1]])
    last = HookedSource(toy, tokens, _hooks("embed", "layer"), positions="last")
    assert len(last) == 6 and last.rows(np.array([3])).position.tolist() == [4]
    assert torch.allclose(last.rows(np.array([3])).activations[0, 0], embedded[3, 4])
    assert not toy.embed._forward_hooks


def test_hooks_of_two_models_and_of_flat_inputs() -> None:
    torch.manual_seed(0)
    models = [torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()) for _ in range(2)]
    hooks = {Site("out", "resid_post", 0, model_index=i): "1" for i in range(2)}
    x = torch.randn(5, 3)
    rows = HookedSource(models, x, hooks).rows(np.arange(5))
    assert torch.allclose(rows.activations[:, 1], models[1](x)) and rows.label.tolist() == [-1] * 5


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (_hooks("nowhere"), "'nowhere' is not a sub-module; there are embed"),
        (_hooks("unused"), "did not run"),
        (_hooks("embed", "head"), "differ in positions or width"),
        ({Site("x", "ln1", 0, model_index=1): "embed"}, "of model 1, but 1"),
        ({}, "give at least one"),
    ],
)
def test_hooks_that_do_not_fit_are_refused(hooks: dict[Site, str], message: str) -> None:
    with pytest.raises(CrosscoderError, match=message):
        HookedSource(_Toy(), torch.zeros(2, 3, dtype=torch.int64), hooks)


def test_a_store_is_a_source(tmp_path: Path) -> None:
    recorded = source()
    rows = recorded.rows(np.arange(216))
    with ActivationWriter(tmp_path / "store", StoreSettings(recorded.sites, 8)) as writer:
        writer.write(rows.activations.numpy())
    store = ActivationStore(tmp_path / "store")
    read = StoreSource(store, token_ids=rows.token_ids.numpy(), label=rows.label.numpy())
    found = read.rows(np.array([3, 200]))
    assert torch.equal(found.activations, rows.activations[[3, 200]])
    assert found.label.tolist() == rows.label[[3, 200]].tolist()
    assert found.token_ids.equal(rows.token_ids[[3, 200]])
    assert StoreSource(store).rows(np.array([0])).label.tolist() == [-1]
    with pytest.raises(CrosscoderError, match="label has 2 entries"):
        StoreSource(store, label=np.zeros(2, np.int64))
    assert TASK.total == len(read)
