"""What the gate monitors: groups of numbers of a run, one of which is the cut.

The group that is the cut determines the logits: it is the input, ``z_layer`` or
``relu(z_layer)`` of a ``ReluNetwork``. Other groups are only compared with the ranges that a
cell gives them.
"""

import builtins
import hashlib
import json
from dataclasses import dataclass
from typing import Final, Literal, final

from .._errors import ModelError
from ._relu_network import ReluNetwork

SiteKind = Literal["input", "pre", "post", "feature", "readout"]
_KINDS: Final = ("input", "pre", "post", "feature", "readout")
_CUT_KINDS: Final = ("input", "pre", "post")


@final
@dataclass(frozen=True)
class SiteGroup:
    """``size`` numbers of a run under one name."""

    name: str
    kind: SiteKind
    size: int

    def __post_init__(self) -> None:
        """Refuse other kinds and empty groups; raises ModelError."""
        if type(self.name) is not str or not self.name.isprintable() or not self.name:
            raise ModelError(f"a site group is named {self.name!r}: pass a printable name")
        if self.kind not in _KINDS:
            raise ModelError(
                f"the site group {self.name} is of kind {self.kind!r}: pass one of "
                f"{', '.join(_KINDS)}"
            )
        if type(self.size) is not int or self.size < 1:
            raise ModelError(f"the site group {self.name} has size {self.size!r}: pass 1 or more")


@final
@dataclass(frozen=True)
class Sites:
    """The groups, concatenated in order; ``cut`` names the one that is ``z_layer``."""

    groups: tuple[SiteGroup, ...]
    cut: str
    """An input or pre group is ``z_layer``, a post group is ``relu(z_layer)``."""
    layer: int

    def __post_init__(self) -> None:
        """Refuse a cut that is not there; raises ModelError."""
        object.__setattr__(self, "groups", tuple(self.groups))
        names = [group.name for group in self.groups]
        if len(set(names)) != len(names):
            raise ModelError(f"site groups {names}: pass names that differ")
        if self.cut not in names:
            raise ModelError(f"the cut {self.cut!r} is none of the site groups {names}")
        if self.cut_group.kind not in _CUT_KINDS:
            raise ModelError(
                f"the cut {self.cut} is of kind {self.cut_group.kind}: pass a group of kind "
                f"{', '.join(_CUT_KINDS)}"
            )
        if type(self.layer) is not int or self.layer < 0:
            raise ModelError(f"the cut {self.cut} is at layer {self.layer!r}: pass 0 or more")

    @property
    def size(self) -> int:
        """Sites in all, S."""
        return sum(group.size for group in self.groups)

    def slice(self, name: str) -> builtins.slice:
        """Where a group is; raises ModelError if there is no such group."""
        start = 0
        for group in self.groups:
            if group.name == name:
                return builtins.slice(start, start + group.size)
            start += group.size
        raise ModelError(f"no site group {name!r}: there are {[g.name for g in self.groups]}")

    @property
    def cut_group(self) -> SiteGroup:
        """The group that determines the logits."""
        return next(group for group in self.groups if group.name == self.cut)

    @property
    def cut_slice(self) -> builtins.slice:
        """Where the cut is."""
        return self.slice(self.cut)

    @property
    def after_relu(self) -> bool:
        """Whether the cut is ``relu(z_layer)`` instead of ``z_layer``."""
        return self.cut_group.kind == "post"

    def name(self, index: int) -> str:
        """``pre1[3]`` for the fourth site of the group ``pre1``."""
        for group in self.groups:
            if index < group.size:
                return f"{group.name}[{index}]"
            index -= group.size
        raise ModelError(f"there are {self.size} sites, numbered from 0: site {index} is beyond")

    @property
    def sha256(self) -> str:
        """Digest (hex) of the groups, the cut and its layer."""
        text = json.dumps(
            {
                "cut": self.cut,
                "groups": [[group.name, group.kind, group.size] for group in self.groups],
                "layer": self.layer,
            },
            sort_keys=True,
            separators=(",", ":"),
        )
        return hashlib.sha256(b"compactproofs sites 1\n" + text.encode()).hexdigest()

    def require_fit(self, network: ReluNetwork) -> None:
        """Refuse a network whose logits the cut does not determine; raises ModelError."""
        group = self.cut_group
        if self.layer >= len(network.layers) or (group.kind == "input" and self.layer):
            raise ModelError(
                f"the cut {self.cut} of kind {group.kind} is at layer {self.layer} of a network of "
                f"{len(network.layers)} layers: layers count from 0, and the input is layer 0"
            )
        if group.size != network.widths[self.layer]:
            raise ModelError(
                f"the cut {self.cut} has {group.size} sites, but layer {self.layer} of the network "
                f"takes {network.widths[self.layer]}"
            )
        if self.after_relu and not network.layers[self.layer].relu:
            raise ModelError(
                f"the cut {self.cut} is of kind post, but layer {self.layer} has no ReLU: make it "
                "of kind pre"
            )
        if network.skip is not None and (self.layer or self.after_relu):
            raise ModelError(
                f"the cut {self.cut} does not determine the logits of a network with a skip "
                "connection: cut at its input (layer 0, kind input or pre)"
            )

    def pattern_layers(self, network: ReluNetwork) -> tuple[int, ...]:
        """The layers strictly after the cut that begin with a ReLU: a cell's pattern is over them.

        The pattern numbers their units ``z_i`` layer by layer.
        """
        later = range(self.layer + 1, len(network.layers))
        return tuple(number for number in later if network.layers[number].relu)

    def unit_layers(self, network: ReluNetwork) -> tuple[int, ...]:
        """The layers whose ReLU acts on what the cut gives: those of a region's witness.

        They are ``pattern_layers``, after the cut's own layer if that has a ReLU and the cut is
        before it.
        """
        own = network.layers[self.layer].relu and not self.after_relu
        return ((self.layer,) if own else ()) + self.pattern_layers(network)

    def pattern_size(self, network: ReluNetwork) -> int:
        """Units of ``pattern_layers``."""
        return sum(network.widths[number] for number in self.pattern_layers(network))

    def unit_size(self, network: ReluNetwork) -> int:
        """Units of ``unit_layers``; a pattern's are the last ``pattern_size`` of them."""
        return sum(network.widths[number] for number in self.unit_layers(network))
