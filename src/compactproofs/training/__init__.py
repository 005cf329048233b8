"""Recipes for the toy models of the zoo. Needs the extra ``train`` (torch), loaded on first use."""

from ._max_of_k import TrainedModel as TrainedModel
from ._max_of_k import TrainProgress as TrainProgress
from ._max_of_k import TrainSettings as TrainSettings
from ._max_of_k import train_max_of_k as train_max_of_k
