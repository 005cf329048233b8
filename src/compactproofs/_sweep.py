"""A sweep: train and prove over many seeds, one JSON line each, resumed where it stopped.

The first key of a line is ``settings``: lines of other settings are not mixed into one file.
"""

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import _ladder
from .kernel import MaxOfK, Model, OptionError, TaskError, UserError, load_model, parse_task
from .models import save_model
from .scale import map_shards

_MOST_SEEDS = 100_000


@dataclass(frozen=True)
class SweepSettings:
    """What every seed of a sweep has in common."""

    task: str
    steps: int = 3000
    d_model: int = 32
    batch: int = 128
    learning_rate: float = 1e-3
    strategies: str = "families"
    samples: int = 1_000_000

    def __post_init__(self) -> None:
        """Refuse what cannot be run, before anything is."""
        if not isinstance(parse_task(self.task), MaxOfK):
            raise TaskError(
                f"a sweep trains by the published recipe, of max:k=... alone, not {self.task!r}"
            )
        _ladder.strategies(self.strategies)
        for name in ("steps", "d_model", "batch", "samples"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} = {getattr(self, name)} must be at least 1")


class CorruptLineError(UserError):
    """A line of a results file that cannot be read."""


def parse_seeds(text: str) -> list[int]:
    """Seeds as ``0-150`` or ``0,3,7-9``; raises OptionError."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise OptionError(f"cannot read {part!r} in the seeds {text!r}: write 0-150 or 0,3,7-9")
        part_seeds = range(int(match[1]), int(match[2] or match[1]) + 1)
        if len(seeds) + len(part_seeds) > _MOST_SEEDS:
            raise OptionError(f"the seeds {text!r} are more than {_MOST_SEEDS}")
        seeds += part_seeds
    return list(dict.fromkeys(seeds))


def read_results(path: Path, *, skip_corrupt: bool = False) -> list[dict[str, Any]]:
    """The whole lines of a results file; none if there is no file.

    Raises CorruptLineError with the number of a line that is not one whole result, unless
    ``skip_corrupt``.
    """
    if not path.exists():
        return []
    found: list[dict[str, Any]] = []
    lines = path.read_bytes().split(b"\n")
    cut = lines.pop()
    if cut:
        lines.append(cut)
    for number, line in enumerate(lines, start=1):
        fault, result = "", {}
        try:
            result = json.loads(line)
            if not isinstance(result, dict) or not {"settings", "seed", "points"} <= set(result):
                fault = "is no result of a sweep"
        except ValueError:
            is_last = cut and number == len(lines)
            fault = "was cut off before its end" if is_last else "is not JSON"
        if not fault:
            found.append(result)
        elif not skip_corrupt:
            raise CorruptLineError(
                f"line {number} of {path} {fault}: repair or delete it, or pass --skip-corrupt to "
                "leave it out and run its seed again"
            )
    return found


def sweep(
    settings: SweepSettings,
    seeds: Sequence[int],
    path: Path,
    *,
    processes: int = 1,
    skip_corrupt: bool = False,
    models: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Run the seeds that ``path`` does not have yet; append and yield the result of each.

    models: a folder where trained models are kept, and taken from if they are there already.
    Cost of a seed: that of training, of the strategies, and of the accuracy.
    """
    stored = asdict(settings)
    done: set[int] = set()
    for result in read_results(path, skip_corrupt=skip_corrupt):
        if result["settings"] != stored:
            different = [n for n in stored if result["settings"].get(n) != stored[n]]
            raise OptionError(
                f"{path} holds results of other settings ({', '.join(different)}): name another "
                "file"
            )
        done.add(result["seed"])
    todo = [(settings, seed, models) for seed in seeds if seed not in done]
    for _, result in map_shards(run_seed, todo, processes):
        _append(path, result)
        yield result


def _append(path: Path, result: Mapping[str, Any]) -> None:
    line = json.dumps(result, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    with path.open("ab+") as file:
        # What a crash cut off stays a line of its own, to be reported, and harms no other.
        if file.tell() and not _ends_whole(file):
            line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _ends_whole(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def run_seed(shard: tuple[SweepSettings, int, Path | None]) -> dict[str, Any]:
    """Train one model and measure it."""
    settings, seed, models = shard
    task = parse_task(settings.task)
    began = time.perf_counter()
    model = trained_model(settings, seed, models)
    training = time.perf_counter() - began
    chosen = _ladder.strategies(settings.strategies)
    found = _ladder.measure(
        model, task, chosen, samples=settings.samples, name=f"{task.name} seed {seed}"
    )
    for point in found["points"]:
        del point["options"], point["theorem"], point["outcome"]
    return {
        "settings": asdict(settings),
        "seed": seed,
        "seconds_train": round(training, 2),
        "seconds": round(time.perf_counter() - began, 2),
        **found,
    }


def trained_model(settings: SweepSettings, seed: int, models: Path | None = None) -> Model:
    """The model of a seed: out of the folder ``models`` if it is there, else trained (and kept)."""
    name = f"{settings.task},d={settings.d_model},steps={settings.steps},seed={seed}"
    kept = None if models is None else models / name.replace(":", "-")
    if kept is not None and kept.exists():
        return load_model(kept)
    from .training import TrainSettings, train_max_of_k

    _one_torch_thread()
    task = parse_task(settings.task)
    trained = train_max_of_k(
        TrainSettings(
            k=task.k,
            v=task.v,
            d_model=settings.d_model,
            steps=settings.steps,
            batch=settings.batch,
            learning_rate=settings.learning_rate,
            seed=seed,
        )
    )
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        return load_model(save_model(kept, trained.config, trained.tensors))
    with tempfile.TemporaryDirectory() as folder:
        return load_model(save_model(Path(folder) / "model", trained.config, trained.tensors))


def _one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)
