"""A character model of four layers, trained on the docstrings of Python's standard library.

    python benchmarks/character_model.py [--steps 3000] [--minutes 10]

Text: every docstring in the library's files in order of their names, each once, tests left out;
printable ASCII and the line feed; every twentieth file is held out. Model: causal attention,
learned positions, ReLU neurons, no LayerNorm, so that it is a model directory of this package; it
predicts the next character at every position. Attention output and W_out start smaller by
1/sqrt(2 n_layers), and gradients are clipped: that is enough to train it without LayerNorm.

Writes ``out/bigger-network/model`` and, on the way, ``training.safetensors`` beside it, from which
an interrupted run goes on. With ``--minutes`` a run stops in time and the next one goes on.

Notation: n sequences, k positions, v characters, d width, a heads, h width of a head, m neurons.
"""

import argparse
import ast
import hashlib
import inspect
import math
import os
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, embedding, scaled_dot_product_attention

from compactproofs.crosscoders import residuals
from compactproofs.kernel import Transformer
from compactproofs.models import save_model

OUT = Path(__file__).resolve().parent.parent / "out" / "bigger-network"
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
"""The vocabulary: token 0 is the line feed, then printable ASCII in order."""
HELD_OUT_EVERY = 20
NO_TEXT = {"test", "tests", "idle_test", "site-packages", "__pycache__", "lib2to3"}
WARM_UP, DECAY, FLOOR = 100, 0.5, 0.02
CLIP = 1.0
EMBEDDING = 0.35


class Text(NamedTuple):
    """Characters as tokens, from files that are trained on and files that are not."""

    trained: UInt8[np.ndarray, " t"]
    held_out: UInt8[np.ndarray, " u"]
    docstrings: int
    sha256: str
    """Of both parts, the held-out one last."""


@dataclass(frozen=True)
class Recipe:
    """Sizes and training of the model; equal ones give equal weights on one kind of machine."""

    n_layers: int = 4
    n_heads: int = 4
    d_model: int = 128
    d_mlp: int = 512
    n_ctx: int = 64
    steps: int = 3000
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    seed: int = 0

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.d_model // self.n_heads


def docstrings(library: Path) -> Iterator[tuple[str, str]]:
    """Name of the file and docstring, in order of names and places; unreadable files are left out.

    Names are compared as paths below `library`. A docstring with other characters is left out.
    """
    allowed = frozenset(CHARACTERS)
    for file in sorted(library.rglob("*.py"), key=lambda path: path.relative_to(library).parts):
        name = file.relative_to(library)
        if NO_TEXT & set(name.parts):
            continue
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        for node in ast.walk(tree):
            text = ast.get_docstring(node) if isinstance(node, documented) else None
            if text and allowed.issuperset(text):
                # Again: what the lines after the first are indented by in common goes too.
                yield name.as_posix(), inspect.cleandoc(text).strip()


def library_text(library: Path | None = None) -> Text:
    """The text of `library` (None: that of the running Python). Cost: parses every file once."""
    seen: set[str] = set()
    parts: tuple[list[str], list[str]] = ([], [])
    files: dict[str, int] = {}
    for name, text in docstrings(library or Path(sysconfig.get_path("stdlib"))):
        number = files.setdefault(name, len(files))
        if text not in seen:
            seen.add(text)
            parts[number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1].append(text)
    trained, held_out = ("\n\n\n".join(part) for part in parts)
    digest = hashlib.sha256(f"{trained}\n\n\n{held_out}".encode()).hexdigest()
    return Text(tokens_of(trained), tokens_of(held_out), len(seen), digest)


def tokens_of(text: str) -> UInt8[np.ndarray, " t"]:
    """The token of each character."""
    raw = np.frombuffer(text.encode("ascii"), np.uint8)
    return np.where(raw == 10, 0, raw - 31).astype(np.uint8)


def text_of(tokens: Int[np.ndarray, " t"]) -> str:
    """The characters of tokens."""
    return "".join(CHARACTERS[token] for token in tokens)


def windows(
    text: UInt8[np.ndarray, " t"], k: int, most: int
) -> tuple[Int64[np.ndarray, "n k"], Int64[np.ndarray, "n k"]]:
    """Sequences of k characters, evenly spaced over a text, and the character after each one."""
    n = min(most, (len(text) - 1) // k)
    starts = np.linspace(0, len(text) - k - 1, n).astype(np.int64)
    cut = text[starts[:, None] + np.arange(k + 1)].astype(np.int64)
    return cut[:, :-1], cut[:, 1:]


def initial_tensors(recipe: Recipe) -> dict[str, torch.Tensor]:
    """Tensors by TransformerLens 3 names before the first step, without b_Q, b_K, b_V, b_O, b_U.

    Weights N(0, 1/fan-in), those that write to the stream smaller by 1/sqrt(2 n_layers);
    embeddings of standard deviation EMBEDDING; biases 0.
    """
    drawn = torch.Generator().manual_seed(recipe.seed)
    d, a, h, m = recipe.d_model, recipe.n_heads, recipe.d_head, recipe.d_mlp
    smaller = 1 / math.sqrt(2 * recipe.n_layers)

    def normal(scale: float, *shape: int) -> torch.Tensor:
        return scale * torch.randn(shape, generator=drawn)

    tensors = {
        "embed.W_E": normal(EMBEDDING, len(CHARACTERS), d),
        "pos_embed.W_pos": normal(EMBEDDING, recipe.n_ctx, d),
    }
    for layer in range(recipe.n_layers):
        block = f"blocks.{layer}."
        tensors |= {f"{block}attn.W_{one}": normal(d**-0.5, a, d, h) for one in "QKV"}
        tensors[f"{block}attn.W_O"] = normal(smaller * (a * h) ** -0.5, a, h, d)
        tensors[f"{block}mlp.W_in"] = normal(d**-0.5, d, m)
        tensors[f"{block}mlp.b_in"] = torch.zeros(m)
        tensors[f"{block}mlp.W_out"] = normal(smaller * m**-0.5, m, d)
        tensors[f"{block}mlp.b_out"] = torch.zeros(d)
    return tensors | {"unembed.W_U": normal(d**-0.5, d, len(CHARACTERS))}


def logits_of(
    tensors: Mapping[str, torch.Tensor], tokens: Int64[torch.Tensor, "n k"], n_layers: int
) -> Float[torch.Tensor, "n k v"]:
    """The logits at every position."""
    stream = embedding(tokens, tensors["embed.W_E"]) + tensors["pos_embed.W_pos"]
    for layer in range(n_layers):
        own = {
            name.split(".")[-1]: one
            for name, one in tensors.items()
            if name.startswith(f"blocks.{layer}.")
        }
        asked = torch.cat([own["W_Q"], own["W_K"], own["W_V"]]).permute(1, 0, 2)
        query, key, value = (
            (stream @ asked.flatten(1))
            .unflatten(2, (3, len(own["W_Q"]), -1))
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + mixed.transpose(1, 2).flatten(2) @ own["W_O"].flatten(0, 1)
        hidden = torch.relu(stream @ own["W_in"] + own["b_in"])
        stream = stream + hidden @ own["W_out"] + own["b_out"]
    return stream @ tensors["unembed.W_U"]


def train(
    text: Text,
    recipe: Recipe,
    file: Path,
    deadline: float = math.inf,
    tick: Callable[[int, float], None] | None = None,
) -> dict[str, torch.Tensor] | None:
    """Train, or go on from `file`; None if the `deadline` (of time.monotonic) came first.

    tick: called every 50 steps with the step and the loss (nats) of its batch.
    Cost: about 6 n k (parameters) FLOPs a step; 0.15 s on a free core with the defaults.
    """
    tensors = initial_tensors(recipe)
    for tensor in tensors.values():
        tensor.requires_grad_()
    optimiser = torch.optim.AdamW(
        list(tensors.values()),
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    state = _state(tensors, optimiser)
    if file.exists():
        stored = load_file(file)
        with torch.no_grad():
            for name, one in state.items():
                one.copy_(stored[name])
    source = torch.from_numpy(text.trained.astype(np.int64))
    offsets = torch.arange(recipe.n_ctx + 1)
    first = int(state["adam.step.unembed.W_U"])
    for step in range(first, recipe.steps):
        drawn = torch.Generator().manual_seed(1_000_003 * (recipe.seed + 1) + step)
        starts = torch.randint(len(source) - recipe.n_ctx, (recipe.batch, 1), generator=drawn)
        cut = source[starts + offsets]
        loss = cross_entropy(
            logits_of(tensors, cut[:, :-1], recipe.n_layers).flatten(0, 1), cut[:, 1:].flatten()
        )
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _rate(step, recipe.steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tensors.values(), CLIP)
        optimiser.step()
        if tick is not None and (step % 50 == 49 or step == recipe.steps - 1):
            tick(step + 1, loss.item())
        late = time.monotonic() > deadline
        if step % 500 == 499 or step == recipe.steps - 1 or late:
            _save(file, state)
        if late and step < recipe.steps - 1:
            return None
    return {name: one.detach() for name, one in tensors.items()}


def config_of(recipe: Recipe) -> dict[str, object]:
    """The fields of ``config.json``."""
    return {
        "n_layers": recipe.n_layers,
        "n_heads": recipe.n_heads,
        "d_model": recipe.d_model,
        "d_head": recipe.d_head,
        "d_mlp": recipe.d_mlp,
        "d_vocab": len(CHARACTERS),
        "d_vocab_out": len(CHARACTERS),
        "n_ctx": recipe.n_ctx,
        "act_fn": "relu",
        "attn_only": False,
        "normalization_type": None,
        "eps": 1e-5,
        "attn_scale": -1.0,
        "use_attn_scale": True,
        "attention_dir": "causal",
        "positional_embedding_type": "standard",
        "dtype": "float32",
        "seed": recipe.seed,
    }


def cross_entropies(net: Transformer, text: Text, most: int = 1000) -> dict[str, float]:
    """Nats a character on held-out text, of the model and of counts; and how often it is right.

    The model is run by numpy in float64 on `most` sequences; ``at_last_position`` has the whole
    context. unigram, bigram, trigram: counts in the training text, of each context with the counts
    of the shorter one, scaled to 1, added. Cost: `most` forward passes and an array of v^3.
    """
    tokens, wanted = windows(text.held_out, net.n_ctx, most)
    last = f"blocks.{len(net.blocks) - 1}.hook_resid_post"
    logits = residuals(net, tokens, [last], "all")[:, 0] @ net.W_U + net.b_U
    logits = logits.reshape(*tokens.shape, -1)
    top = logits.max(axis=2, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(axis=2, keepdims=True))
    loss = -np.take_along_axis(logs, wanted[:, :, None], axis=2)[:, :, 0]
    right = logits.argmax(axis=2) == wanted
    found = {
        "model": float(loss.mean()),
        "model_at_last_position": float(loss[:, -1].mean()),
        "accuracy": float(right.mean()),
        "accuracy_at_last_position": float(right[:, -1].mean()),
    }
    v, a, b = len(CHARACTERS), text.trained.astype(np.int64), text.held_out.astype(np.int64)
    shorter = np.full(v, 1 / v)
    for order, name in enumerate(("unigram", "bigram", "trigram")):
        counts = np.zeros((v,) * (order + 1))
        np.add.at(counts, tuple(a[i : len(a) - order + i] for i in range(order + 1)), 1)
        counts += shorter
        shorter = counts / counts.sum(axis=-1, keepdims=True)
        p = shorter[tuple(b[i : len(b) - order + i] for i in range(order + 1))]
        found[name] = float(-np.log(p).mean())
    return found


@contextmanager
def clocked(file: Path) -> Iterator[None]:
    """Add the processor time of the block to the seconds in `file`."""
    began = time.process_time()
    try:
        yield
    finally:
        before = seconds_in(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{before + time.process_time() - began:.1f}\n")


def seconds_in(file: Path) -> float:
    """What `clocked` has written there; 0 if nothing."""
    return float(file.read_text()) if file.exists() else 0.0


def _rate(step: int, steps: int) -> float:
    """The share of the learning rate in a step: warm-up, and a linear end."""
    end = min(1.0, (1 - step / steps) / DECAY)
    return min(1.0, (step + 1) / WARM_UP, FLOOR + (1 - FLOOR) * end)


def _state(
    tensors: Mapping[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """All that changes in a run; the optimiser's part is made now, to be read into."""
    state = dict(tensors)
    for name, tensor in tensors.items():
        optimiser.state[tensor] = {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(tensor),
            "exp_avg_sq": torch.zeros_like(tensor),
        }
        state |= {f"adam.{key}.{name}": one for key, one in optimiser.state[tensor].items()}
    return state


def _save(file: Path, state: Mapping[str, torch.Tensor]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    save_file({name: one.detach() for name, one in state.items()}, fresh)
    os.replace(fresh, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="of the optimiser")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop then, to go on later")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the model")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe(steps=wanted.steps)
    text = library_text()
    print(f"{len(text.trained)} characters and {len(text.held_out)} held out", flush=True)
    began = time.monotonic()
    with clocked(wanted.out / "model.seconds"):
        trained = train(
            text,
            recipe,
            wanted.out / "training.safetensors",
            began + 60 * wanted.minutes,
            lambda step, loss: print(
                f"step {step} of {recipe.steps}: {loss:.3f} nats, {time.monotonic() - began:.0f} s",
                flush=True,
            ),
        )
    if trained is None:
        raise SystemExit("time is up; run again to go on")
    save_model(wanted.out / "model", config_of(recipe), trained, force=True)


if __name__ == "__main__":
    main()
