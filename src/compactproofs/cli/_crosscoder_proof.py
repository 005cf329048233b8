"""Proofs by codes (theorems B and C) on the command line: settings, and what they fall short by."""

from dataclasses import dataclass
from typing import Any, final

from ..crosscoders import Crosscoder
from ..crosscoders.proofs import Found, additive_witness, cell_witness
from ..crosscoders.slack import Slack
from ..kernel import Task, Transformer
from ..report import Loss, Waterfall

BY_CODES = ("crosscoder-b", "crosscoder-c")
_SHOWN = 5


@final
@dataclass(frozen=True)
class CodeSettings:
    """How codes are made of a crosscoder; see `compactproofs.crosscoders.proofs`."""

    active: int = 4
    extra: int = 0
    levels: int = 64
    cells: str = "label"
    plain: bool = False
    enumerate_rest: bool = False

    def found(self, theorem: str, net: Transformer, task: Task, own: Crosscoder) -> Found:
        """The witness of one of `BY_CODES`."""
        shared: dict[str, Any] = {
            "k": self.active,
            "extra": self.extra,
            "values": self.levels,
            "cells": self.cells,
            "forward_passes": self.enumerate_rest,
        }
        if theorem == "crosscoder-c":
            return cell_witness(net, task, own, **shared)
        if self.plain:
            shared |= {"cells": "one", "anchors": False, "signs": False}
        return additive_witness(net, task, own, **shared)


def steps_down(slack: Slack) -> Waterfall:
    """From all inputs to those proved by the theorem's own tests."""
    total = len(slack.proved)
    losses = tuple(
        Loss(cause.name.lower(), number / total, cause.value)
        for cause, number in slack.causes.items()
    )
    return Waterfall(1.0, losses, float(slack.proved.mean()), start_name="all inputs")


def slack_json(slack: Slack) -> dict[str, Any]:
    """Causes, mean losses in logits, and the pairs of features that cost most."""
    return {
        "not_proved_because": {cause.name.lower(): n for cause, n in slack.causes.items()},
        "mean_logits": slack.means,
        "interacting_pairs": [
            {
                "features": [list(pair.first), list(pair.second)],
                "inputs_not_proved": pair.sequences,
                "inputs_it_costs": pair.costs,
                "loss": pair.loss,
            }
            for pair in slack.pairs
        ],
    }


def slack_lines(slack: Slack) -> dict[str, str]:
    """The same in words."""
    mean = slack.means
    rows = {
        "margin": f"{mean['margin']:.3g} logits on average; the decode loses {mean['claim']:.3g}, "
        f"interaction or relaxation {mean['own']:.3g}, the residual radius {mean['residual']:.3g}"
    }
    causes = [f"{n:,} {cause.value}" for cause, n in slack.causes.items() if n]
    if causes:
        rows["not proved"] = "; ".join(causes)
    if slack.pairs:
        rows["interacting"] = ", ".join(
            f"features {_names(pair.first)} and {_names(pair.second)} (cost {pair.costs:,} inputs)"
            for pair in slack.pairs[:_SHOWN]
        )
    return rows


def _names(features: tuple[int, ...]) -> str:
    return "+".join(map(str, features))
