"""The transformer recipe: what it writes, that it repeats, that it learns, what it refuses."""

import hashlib
import sys
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compactproofs.kernel import (
    LabelAutomaton,
    MaxOfK,
    Task,
    Transformer,
    load_network,
    parse_task,
)
from compactproofs.models import save_model
from compactproofs.training import (
    TrainedModel,
    TrainProgress,
    TransformerSettings,
    default_settings,
    sampled_accuracy,
    train_transformer,
)
from compactproofs.training._recipes import Batches
from compactproofs.training._transformer import _batches, _from_named, _Labels, _rate, last_logits

SMALL = TransformerSettings(
    task=parse_task("second:k=3,v=4"),
    n_layers=2,
    d_model=6,
    d_head=3,
    n_heads=2,
    d_mlp=5,
    steps=12,
    seed=5,
)


def digest(model: TrainedModel) -> str:
    content = [(name, array.tobytes()) for name, array in sorted(model.tensors.items())]
    return hashlib.sha256(repr((content, model.final_loss)).encode()).hexdigest()


def every_sequence(task: Task) -> np.ndarray:
    return np.array(list(product(range(task.v), repeat=task.k)))


def test_shapes_names_and_config() -> None:
    trained = train_transformer(SMALL)
    blocks = {
        f"blocks.{number}.{name}": shape
        for number in range(2)
        for name, shape in {
            "attn.W_Q": (2, 6, 3),
            "attn.W_K": (2, 6, 3),
            "attn.W_V": (2, 6, 3),
            "attn.W_O": (2, 3, 6),
            "mlp.W_in": (6, 5),
            "mlp.b_in": (5,),
            "mlp.W_out": (5, 6),
            "mlp.b_out": (6,),
        }.items()
    }
    outside = {"embed.W_E": (4, 6), "pos_embed.W_pos": (3, 6), "unembed.W_U": (6, 4)}
    assert {name: array.shape for name, array in trained.tensors.items()} == blocks | outside
    assert all(array.dtype == np.float32 for array in trained.tensors.values())
    assert sum(array.size for array in trained.tensors.values()) == SMALL.parameters
    config = trained.config
    assert (config["n_layers"], config["n_heads"], config["d_mlp"]) == (2, 2, 5)
    assert (config["act_fn"], config["attn_only"], config["normalization_type"]) == (
        "relu",
        False,
        None,
    )
    assert (config["attention_dir"], config["attn_scale"], config["seed"]) == ("causal", -1.0, 5)


def test_without_neurons_it_is_a_model_of_attention_alone() -> None:
    settings = replace(SMALL, n_layers=1, n_heads=1, d_mlp=0)
    trained = train_transformer(settings)
    assert (trained.config["attn_only"], trained.config["d_mlp"]) == (True, None)
    assert trained.config["act_fn"] is None
    assert not [name for name in trained.tensors if ".mlp." in name]
    assert sum(array.size for array in trained.tensors.values()) == settings.parameters


def test_training_is_deterministic_whatever_the_number_of_threads() -> None:
    digests = set()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            digests.add(digest(train_transformer(SMALL)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1
    assert digest(train_transformer(replace(SMALL, seed=6))) not in digests


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("max:k=3,v=5", {"steps": 150}),
        ("second:k=3,v=5", {"steps": 300, "n_layers": 2}),
        ("fetch:k=3,v=5", {"steps": 200}),
        ("sum:k=2,v=5", {"steps": 300, "d_mlp": 32, "d_model": 16}),
        ("max:k=3,v=5", {"steps": 200, "d_mlp": 0, "n_heads": 2, "d_head": 8}),
    ],
)
def test_training_learns_the_task(name: str, changes: dict[str, int]) -> None:
    task = parse_task(name)
    settings = default_settings(task, **changes)
    reports: list[TrainProgress] = []
    trained = train_transformer(settings, reports.append)
    steps = changes["steps"]
    assert [progress.step for progress in reports] == list(range(50, steps + 1, 50))
    assert sampled_accuracy(trained, task) == (task.total, task.total)
    assert trained.final_loss < 0.1
    assert (plain_logits(trained, every_sequence(task)).argmax(axis=1) == labels(task)).all()


def labels(task: Task) -> np.ndarray:
    return task.labels(every_sequence(task))


def plain_logits(model: TrainedModel, tokens: np.ndarray) -> np.ndarray:
    """Every position of every layer written out, of which the last is kept."""
    stored = {name: array.astype(np.float64) for name, array in model.tensors.items()}
    k = tokens.shape[1]
    residual = stored["embed.W_E"][tokens] + stored["pos_embed.W_pos"]
    for number in range(int(str(model.config["n_layers"]))):
        attention = f"blocks.{number}.attn.W_"
        W_Q, W_K, W_V, W_O = (stored[attention + part] for part in "QKVO")
        mixed = np.zeros_like(residual)
        for head in range(len(W_Q)):
            query, key = residual @ W_Q[head], residual @ W_K[head]
            scores = np.einsum("nih,njh->nij", query, key) / np.sqrt(W_Q.shape[2])
            scores = np.where(np.tril(np.ones((k, k), dtype=bool)), scores, -np.inf)
            weights = np.exp(scores - scores.max(axis=2, keepdims=True))
            pattern = weights / weights.sum(axis=2, keepdims=True)
            mixed += pattern @ residual @ W_V[head] @ W_O[head]
        residual = residual + mixed
        mlp = f"blocks.{number}.mlp."
        if mlp + "W_in" in stored:
            neurons = np.maximum(residual @ stored[mlp + "W_in"] + stored[mlp + "b_in"], 0)
            residual = residual + neurons @ stored[mlp + "W_out"] + stored[mlp + "b_out"]
    return (residual @ stored["unembed.W_U"])[:, -1]


@pytest.mark.parametrize("changes", [{}, {"n_layers": 1}, {"d_mlp": 0}, {"n_heads": 1}])
def test_the_forward_pass_of_training_is_that_of_a_transformer(changes: dict[str, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    trained = train_transformer(replace(SMALL, steps=1, **changes))
    drawn = {
        name: torch.randn(array.shape, generator=generator)
        for name, array in trained.tensors.items()
    }
    tokens = every_sequence(SMALL.task)
    model = replace(trained, tensors={name: tensor.numpy() for name, tensor in drawn.items()})
    found = last_logits(_from_named(drawn), torch.from_numpy(tokens)).numpy()
    np.testing.assert_allclose(found, plain_logits(model, tokens), rtol=1e-3, atol=1e-2)


def test_the_kernel_reads_what_is_written(tmp_path: Path) -> None:
    trained = train_transformer(SMALL)
    read = load_network(save_model(tmp_path / "model", trained.config, trained.tensors))
    assert isinstance(read, Transformer)
    assert (read.n_ctx, read.d_vocab, len(read.blocks)) == (3, 4, 2)
    assert np.array_equal(read.blocks[1].W_in, trained.tensors["blocks.1.mlp.W_in"])


# Batches and rates.


def batch_of(name: str, **changes: Any) -> np.ndarray:
    settings = TransformerSettings(task=parse_task(name), **changes)
    return next(_batches(settings, 3, torch.device("cpu"))).numpy()


def test_small_tasks_are_learned_from_all_their_sequences() -> None:
    for name in ("sum:k=2,v=31", "max:k=4,v=8"):
        task = parse_task(name)
        assert np.array_equal(batch_of(name, batch=7), every_sequence(task))
    assert batch_of("max:k=1,v=5").tolist() == [[0], [1], [2], [3], [4]]


def test_large_tasks_are_learned_from_fresh_uniform_sequences() -> None:
    tokens = batch_of("fetch:k=4,v=16", batch=5000)
    assert tokens.shape == (5000, 4)
    assert abs(np.bincount(tokens.ravel(), minlength=16) / tokens.size - 1 / 16).max() < 0.01


@pytest.mark.parametrize("name", ["max:k=8,v=32", "second:k=6,v=32"])
def test_half_of_a_batch_of_long_sequences_is_capped(name: str) -> None:
    tokens = batch_of(name, batch=4000)
    uniform, capped = tokens[::2], tokens[1::2]
    assert abs(uniform.mean() - 15.5) < 0.3 and (uniform.max(axis=1) < 16).mean() < 0.05
    assert 0.35 < (capped.max(axis=1) < 16).mean() < 0.75
    assert capped.min() == 0 and capped.max() == 31


def test_which_tasks_are_capped() -> None:
    def kind(name: str) -> Batches:
        return TransformerSettings(task=parse_task(name)).batches

    assert kind("max:k=5,v=32") is kind("sum:k=8,v=8") is kind("fetch:k=8,v=3") is Batches.UNIFORM
    assert kind("max:k=6,v=4") is kind("second:k=6,v=4") is Batches.EVERYTHING
    assert kind("max:k=6,v=5") is kind("second:k=6,v=5") is Batches.HALF_CAPPED


@pytest.mark.parametrize("name", ["max:k=3,v=4", "second:k=3,v=4", "sum:k=3,v=4", "fetch:k=3,v=4"])
def test_labels_are_those_of_the_kernel(name: str) -> None:
    task = parse_task(name)
    found = _Labels(task, torch.device("cpu"))(torch.from_numpy(every_sequence(task)))
    assert found.tolist() == labels(task).tolist()


def test_the_learning_rate_rises_stays_and_falls() -> None:
    assert [_rate(step, 1000) for step in (1, 50, 100, 600)] == [0.01, 0.5, 1.0, 1.0]
    assert _rate(800, 1000) == pytest.approx(0.51)
    assert _rate(1000, 1000) == pytest.approx(0.02)


def test_the_defaults_of_a_task_give_way_to_what_is_asked() -> None:
    task = parse_task("sum:k=2,v=31")
    assert default_settings(task).d_mlp == 128 and default_settings(task).weight_decay == 0.3
    assert default_settings(task, d_mlp=7).d_mlp == 7
    assert default_settings(MaxOfK(8, 32)).steps == 5000


# Accuracy.


def test_accuracy_is_sampled_where_there_are_too_many_sequences() -> None:
    task = parse_task("max:k=4,v=8")
    trained = train_transformer(TransformerSettings(task=task, d_model=8, d_mlp=4, steps=3))
    assert sampled_accuracy(trained, task).sequences == 4096
    some = sampled_accuracy(trained, task, samples=100)
    assert some.sequences == 100 and some.share == some.right / 100
    assert sampled_accuracy(trained, task, samples=100) == some
    exact = (plain_logits(trained, every_sequence(task)).argmax(axis=1) == labels(task)).sum()
    assert sampled_accuracy(trained, task).right == exact


def test_ties_are_wrong() -> None:
    task = parse_task("max:k=2,v=3")
    trained = train_transformer(TransformerSettings(task=task, d_model=4, d_mlp=2, steps=1))
    flat = {name: np.zeros_like(array) for name, array in trained.tensors.items()}
    assert sampled_accuracy(replace(trained, tensors=flat), task) == (0, 9)


# Refusals.


class AlwaysSeven(Task):
    """The label is 7, whatever the tokens."""

    k = 2
    v = 3

    @property
    def name(self) -> str:
        return "seven"

    @cached_property
    def automaton(self) -> LabelAutomaton:
        return LabelAutomaton(np.zeros((1, 3), dtype=np.int64), np.array([7]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": 0}, "n_layers=0"),
        ({"n_heads": 0}, "n_heads=0"),
        ({"d_model": 0}, "d_model=0"),
        ({"d_head": 0}, "d_head=0"),
        ({"d_mlp": -1}, "d_mlp=-1"),
        ({"steps": 0}, "steps=0"),
        ({"batch": 0}, "batch=0"),
        ({"seed": -1}, "seed=-1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"weight_decay": float("inf")}, "weight_decay=inf"),
        ({"d_mlp": 10**7}, "at most 100000000 are allowed"),
        ({"batch": 10**8}, "batch=100000000 is too large for max:k=4,v=64"),
        ({"task": parse_task("max:k=4,v=64,q=0-3", parts=True)}, "train on the whole, max:k=4"),
        ({"task": AlwaysSeven()}, "task=seven has labels 7 to 7, but outputs are 0 to 2"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        TransformerSettings(**{"task": MaxOfK(4, 64), **changes})
    assert "\n" not in str(caught.value)


def test_a_device_that_cannot_be_used_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="device='toaster'.*use 'cpu'") as caught:
        train_transformer(replace(SMALL, device="toaster"))
    assert "\n" not in str(caught.value)


def test_divergence_is_an_error_that_names_the_learning_rate() -> None:
    with pytest.raises(FloatingPointError, match="learning_rate=1e\\+30"):
        train_transformer(replace(SMALL, learning_rate=1e30))


def test_missing_torch_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = train_transformer(replace(SMALL, steps=1))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'compactproofs\[train\]'"):
        train_transformer(SMALL)
    with pytest.raises(ImportError, match=r"pip install 'compactproofs\[train\]'"):
        sampled_accuracy(trained, SMALL.task)


def test_an_interrupted_run_gives_the_threads_back() -> None:
    before = torch.get_num_threads()

    def interrupt(progress: TrainProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_transformer(SMALL, interrupt)
    assert torch.get_num_threads() == before
