"""Where measurements come from: the port, its Prometheus adapters and the query catalogue."""
