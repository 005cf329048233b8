"""Proved lower bounds on a trained transformer's accuracy, with certificates anyone can check."""

from ._proving import check_certificate as check_certificate
from ._proving import prove as prove
from ._proving import write_certificate as write_certificate
from .kernel import AdditiveOptions as AdditiveOptions
from .kernel import BruteForceOptions as BruteForceOptions
from .kernel import Claim as Claim
from .kernel import Model as Model
from .kernel import Outcome as Outcome
from .kernel import Proved as Proved
from .kernel import Task as Task
from .kernel import Transformer as Transformer
from .kernel import UserError as UserError
from .kernel import Verdict as Verdict
from .kernel import __version__ as __version__
from .kernel import load_model as load_model
from .kernel import load_network as load_network
from .kernel import parse_task as parse_task
from .models import resolve_model as resolve_model
from .models import save_model as save_model
from .models import zoo_names as zoo_names
