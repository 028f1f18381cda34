"""The Kubernetes API as a small port, and its adapter."""
