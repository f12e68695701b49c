"""Publish a trained model as a SavedModel version for TF Serving, and use it there.

`client` and `skew` are imported where they are used.
"""

from .saved_model import (
    export_run,
    export_saved_model,
    verify_saved_model,
)

__all__ = ["export_run", "export_saved_model", "verify_saved_model"]
