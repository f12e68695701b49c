"""Requests that TF Serving logged, as logs with scores."""
