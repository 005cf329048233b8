"""The trusted half: weights in, proved claims out. Imports nothing of the rest of the package.

To trust one certificate, read ``_model`` (bytes to numbers), ``_enclosure`` and ``_integers``
(numbers to exact integer tables), ``_tasks``, ``_claim`` and ``_certificate``, the one file under
``theorems`` that it names, and what that file imports (``_slack`` and ``_counting`` for most).
"""

from ._certificate import Certificate as Certificate
from ._certificate import Verdict as Verdict
from ._certificate import check as check
from ._certificate import claim_fields as claim_fields
from ._certificate import decode_certificate as decode_certificate
from ._certificate import encode_certificate as encode_certificate
from ._certificate import verify_certificate as verify_certificate
from ._claim import Claim as Claim
from ._claim import ClassCount as ClassCount
from ._claim import Outcome as Outcome
from ._claim import Proved as Proved
from ._claim import require_fit as require_fit
from ._composition import COMPOSED as COMPOSED
from ._composition import compose as compose
from ._errors import EnclosureError as EnclosureError
from ._errors import KernelDefectError as KernelDefectError
from ._errors import MalformedError as MalformedError
from ._errors import ModelError as ModelError
from ._errors import OptionError as OptionError
from ._errors import RejectedError as RejectedError
from ._errors import SemanticsError as SemanticsError
from ._errors import TaskError as TaskError
from ._errors import UserError as UserError
from ._files import read_regular_file as read_regular_file
from ._float32 import SEMANTICS as SEMANTICS
from ._integers import IntegerTables as IntegerTables
from ._integers import VerifiedTables as VerifiedTables
from ._integers import integer_tables as integer_tables
from ._integers import require_semantics as require_semantics
from ._integers import verify_tables as verify_tables
from ._model import Model as Model
from ._model import load_model as load_model
from ._tasks import ClassAutomaton as ClassAutomaton
from ._tasks import LabelAutomaton as LabelAutomaton
from ._tasks import MaxOfK as MaxOfK
from ._tasks import Task as Task
from ._tasks import parse_task as parse_task
from ._tick import Tick as Tick
from ._tick import no_tick as no_tick
from ._version import __version__ as __version__
from ._witness import Witness as Witness
from ._witness import witness_from as witness_from
from .theorems import THEOREMS as THEOREMS
from .theorems import AdditiveOptions as AdditiveOptions
from .theorems import BruteForceOptions as BruteForceOptions
from .theorems import CollapsedCubicOptions as CollapsedCubicOptions
from .theorems import CollapsedSubcubicOptions as CollapsedSubcubicOptions
from .theorems import CubicOptions as CubicOptions
from .theorems import EffortWitness as EffortWitness
from .theorems import SubcubicOptions as SubcubicOptions
from .theorems import SubcubicWitness as SubcubicWitness
from .theorems import Theorem as Theorem
from .theorems import WindowedOptions as WindowedOptions
from .theorems import WindowWitness as WindowWitness
from .theorems import additive as additive
from .theorems import brute_force as brute_force
from .theorems import collapsed_cubic as collapsed_cubic
from .theorems import collapsed_subcubic as collapsed_subcubic
from .theorems import cubic as cubic
from .theorems import subcubic as subcubic
from .theorems import windowed as windowed
