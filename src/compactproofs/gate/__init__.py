"""The gate: a verifier that starts knowing nothing and admits only what is explained.

``GatedModel``, ``Admitted``, ``Refused`` and ``network_of`` need torch, and load it when asked for.
"""

from typing import TYPE_CHECKING, Any

from ._building import BuildSettings as BuildSettings
from ._building import Built as Built
from ._building import Labelled as Labelled
from ._building import build_gate as build_gate
from ._checker import Checker as Checker
from ._checker import FixedSample as FixedSample
from ._checker import Judgement as Judgement
from ._checker import Sequential as Sequential
from ._edits import EditCheck as EditCheck
from ._edits import EditSettings as EditSettings
from ._edits import Safety as Safety
from ._edits import check_edit as check_edit
from ._explain import Budget as Budget
from ._explain import explain as explain
from ._explanation import Explanation as Explanation
from ._explanation import explained_cells as explained_cells
from ._feature_sites import features_of as features_of
from ._forward import Activations as Activations
from ._forward import activations as activations
from ._gate import Gate as Gate
from ._gate_book import GateBook as GateBook
from ._generalise import Generalisation as Generalisation
from ._generalise import generalise as generalise
from ._irrelevance import FreeingSettings as FreeingSettings
from ._irrelevance import FreeSites as FreeSites
from ._irrelevance import free_sites as free_sites
from ._ledger import Ledger as Ledger
from ._ledger import LedgerWarning as LedgerWarning
from ._ledger import shard_name as shard_name
from ._mined_network import layers_below as layers_below
from ._mined_network import variables_of as variables_of
from ._prune import Pruned as Pruned
from ._prune import prune as prune
from ._refute import Finding as Finding
from ._refute import RefuteSettings as RefuteSettings
from ._refute import refute as refute
from ._regions import RegionSettings as RegionSettings
from ._regions import raised as raised
from ._regions import search_regions as search_regions
from ._source import Batch as Batch
from ._source import Source as Source
from ._status import GateStatus as GateStatus
from ._surprise import ExplainedSurprise as ExplainedSurprise
from ._watch import watch as watch
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
