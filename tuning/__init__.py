"""Search hyper-parameters with KerasTuner."""

from .objective import Objective
from .search_space import SearchSpace, load_space
from .searching import search

__all__ = ["Objective", "SearchSpace", "load_space", "search"]
