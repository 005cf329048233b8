"""A network of three numbers, its data and a gate's directory: for tests of the commands.

The network says which of three numbers is the largest, exactly: its logits are its inputs.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from compactproofs.cli._main import run


class Given:
    """A directory with a network, its data and a gate; ``call`` runs a command on them."""

    def __init__(self, at: Path) -> None:
        self.at, self.network, self.gate = at, str(at / "net.safetensors"), str(at / "gate")
        rng = np.random.default_rng(0)
        both = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)
        back = np.concatenate([np.eye(3), -np.eye(3)], axis=1).astype(np.float32)
        zero = [np.zeros(6, np.float32), np.zeros(3, np.float32)]
        save_file(
            {"0.weight": both, "0.bias": zero[0], "2.weight": back, "2.bias": zero[1]}, self.network
        )
        for name, n in (("mine", 150), ("fresh", 200), ("test", 40)):
            x = rng.normal(size=(n, 3)).astype(np.float32)
            save_file({"x": x, "labels": x.argmax(axis=1)}, at / f"{name}.safetensors")

    def file(self, name: str) -> str:
        return str(self.at / f"{name}.safetensors")

    def call(self, command: str, *more: str) -> int:
        return run(["gate", command, self.gate, "--network", self.network, *more])

    def explain(self, *more: str) -> int:
        data = ["--mine", self.file("mine"), "--fresh", self.file("fresh")]
        return self.call("explain", *data, "--margins", "0.5,0.1", "--cells", "6", *more)
