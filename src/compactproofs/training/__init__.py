"""Recipes for the toy models of the zoo. Needs the extra ``train`` (torch), loaded on first use."""

from ._max_of_k import TrainSettings as TrainSettings
from ._max_of_k import train_max_of_k as train_max_of_k
from ._recipes import SampledAccuracy as SampledAccuracy
from ._recipes import TransformerSettings as TransformerSettings
from ._recipes import default_settings as default_settings
from ._recipes import sampled_accuracy as sampled_accuracy
from ._recipes import train_transformer as train_transformer
from ._result import TrainedModel as TrainedModel
from ._result import TrainProgress as TrainProgress
