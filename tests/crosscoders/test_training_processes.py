import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_examples import settings, source

from compactproofs.crosscoders import Crosscoder, CrosscoderError, load_crosscoder, save_crosscoder
from compactproofs.crosscoders.training import (
    CertificateLoss,
    Penalty,
    Revival,
    train_crosscoder,
)
from compactproofs.crosscoders.training._ranks import Ranks

# Everything that couples the samples of a batch: BatchTopK, the auxiliary loss's variance, features
# that are moved, clipping, terms on the first samples only.
JOINT = settings(
    architecture="batchtopk_crosscoder",
    steps=30,
    features=24,
    clip=0.5,
    threshold_ema=0.9,
    revival=Revival(dead_after=4, resample_every=10),
    penalty=Penalty(0.1, rows=8),
    certificate=CertificateLoss(1.0, start=0.3, rows=16),
    checkpoint_every=10,
)


def _worker(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    try:
        with pytest.raises(CrosscoderError, match="batch = 31 cannot be dealt out to 2 processes"):
            train_crosscoder(source(), replace(JOINT, batch=31))
        found = train_crosscoder(source(), JOINT, None, folder / "run")
        save_crosscoder(folder / f"rank{rank}", found)
    finally:
        torch.distributed.destroy_process_group()


def _difference(one: Crosscoder, other: Crosscoder) -> float:
    pairs = zip(one.tensors(), other.tensors(), strict=True)
    return max(float(np.abs(np.float64(x) - y).max()) for (_, x), (_, y) in pairs)


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    here = Path(__file__).parent
    start = (
        f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]\n"
        "from pathlib import Path; import test_training_processes as t\n"
        f"t._worker(int(sys.argv[1]), Path({str(tmp_path)!r}))"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", start, str(rank)], stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors.decode()
    alone = train_crosscoder(source(), JOINT)
    for rank in (0, 1):
        assert _difference(load_crosscoder(tmp_path / f"rank{rank}"), alone) < 1e-4
    untrained = train_crosscoder(source(), replace(JOINT, steps=1))
    assert _difference(untrained, alone) > 1e-2
    assert (tmp_path / "run" / "metrics.json").exists()


def test_one_process_changes_nothing() -> None:
    ranks, value = Ranks(), torch.arange(6.0)
    for same in (ranks.total, ranks.mean, ranks.largest, ranks.gathered):
        assert torch.equal(same(value), value)
    assert value[ranks.part(6)].equal(value)
    assert torch.arange(6)[Ranks(1, 3).part(6)].tolist() == [1, 4]
