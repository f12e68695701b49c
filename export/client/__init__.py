"""Ask a served model for probabilities: a client of TF Serving, by gRPC or REST."""

from .async_client import AsyncClient
from .client import Client
from .errors import ServingError

__all__ = ["AsyncClient", "Client", "ServingError"]
