"""The gate: a verifier that starts knowing nothing and admits only what is explained."""

from ._forward import Activations as Activations
from ._forward import activations as activations
from ._gate import Gate as Gate
from ._ledger import Ledger as Ledger
from ._ledger import LedgerWarning as LedgerWarning
from ._ledger import shard_name as shard_name
from ._status import GateStatus as GateStatus
