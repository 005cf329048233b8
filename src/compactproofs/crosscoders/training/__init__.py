"""Training crosscoders. Needs the extra ``train`` (torch), which is loaded on first use.

Importing this package does not import torch; asking it for a name that needs torch does.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._settings import CertificateLoss as CertificateLoss
from ._settings import CrosscoderProgress as CrosscoderProgress
from ._settings import CrosscoderSettings as CrosscoderSettings
from ._settings import Penalty as Penalty
from ._settings import Revival as Revival

if TYPE_CHECKING:
    from ._checkpoint import discard_checkpoint as discard_checkpoint
    from ._checkpoint import stored_metrics as stored_metrics
    from ._hooked_source import HookedSource as HookedSource
    from ._interaction import Readout as Readout
    from ._metrics import crosscoder_metrics as crosscoder_metrics
    from ._refit import certified_codes as certified_codes
    from ._sources import ActivationSource as ActivationSource
    from ._sources import Rows as Rows
    from ._sources import StoreSource as StoreSource
    from ._sources import TransformerSource as TransformerSource
    from ._trainer import train_crosscoder as train_crosscoder

_WITH_TORCH = {
    "ActivationSource": "_sources",
    "HookedSource": "_hooked_source",
    "Readout": "_interaction",
    "Rows": "_sources",
    "StoreSource": "_sources",
    "TransformerSource": "_sources",
    "certified_codes": "_refit",
    "crosscoder_metrics": "_metrics",
    "discard_checkpoint": "_checkpoint",
    "stored_metrics": "_checkpoint",
    "train_crosscoder": "_trainer",
}


def __getattr__(name: str) -> Any:
    """The names that need torch, imported when they are asked for."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        importlib.import_module("torch")
    except ImportError as missing:
        raise ImportError(
            f"{name} needs torch, which is not installed: pip install 'compactproofs[train]'"
        ) from missing
    return getattr(importlib.import_module("." + _WITH_TORCH[name], __name__), name)
