import os

# Before TensorFlow is imported: its start-up lines are not for test reports.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest


@pytest.fixture
def random():
    """A NumPy generator with a fixed seed."""
    return np.random.default_rng(20240229)
