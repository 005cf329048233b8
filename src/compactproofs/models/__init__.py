"""Model directories: the bundled zoo, and writing one from arrays in memory."""

from ._directory import TorchTensor as TorchTensor
from ._directory import check_destination as check_destination
from ._directory import save_model as save_model
from ._zoo import resolve_model as resolve_model
from ._zoo import zoo_names as zoo_names
