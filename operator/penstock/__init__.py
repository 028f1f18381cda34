"""Penstock: a Kubernetes operator for inference services. Set objectives, not thresholds."""

__version__ = "0.1.0"
