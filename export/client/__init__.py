"""Ask a served model for probabilities: a client of TF Serving, by gRPC or REST."""

from .client import Client
from .served_model import ServingError

__all__ = ["Client", "ServingError"]
