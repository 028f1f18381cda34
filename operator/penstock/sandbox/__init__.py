"""A small cluster on one machine, without Docker: API, workloads, Prometheus as local processes."""
