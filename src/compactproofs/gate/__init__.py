"""The gate: a verifier that starts knowing nothing and admits only what is explained.

``GatedModel``, ``Admitted``, ``Refused`` and ``network_of`` need torch, and load it when asked for.
"""

from typing import TYPE_CHECKING, Any

from ._building import BuildSettings as BuildSettings
from ._building import Built as Built
from ._building import Labelled as Labelled
from ._building import build_gate as build_gate
from ._forward import Activations as Activations
from ._forward import activations as activations
from ._gate import Gate as Gate
from ._ledger import Ledger as Ledger
from ._ledger import LedgerWarning as LedgerWarning
from ._ledger import shard_name as shard_name
from ._status import GateStatus as GateStatus
from ._what_if import what_if as what_if

if TYPE_CHECKING:
    from ._gated_model import Admitted as Admitted
    from ._gated_model import GatedModel as GatedModel
    from ._gated_model import Refused as Refused
    from ._gated_model import network_of as network_of

_OF_TORCH = ("Admitted", "GatedModel", "Refused", "network_of")


def __getattr__(name: str) -> Any:
    """What needs torch."""
    if name in _OF_TORCH:
        from . import _gated_model

        return getattr(_gated_model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
