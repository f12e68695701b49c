"""Search hyper-parameters with KerasTuner."""

from edcn_tf.tuning.objective import Objective
from edcn_tf.tuning.search import search
from edcn_tf.tuning.search_space import SearchSpace, load_space

__all__ = ["Objective", "SearchSpace", "load_space", "search"]
