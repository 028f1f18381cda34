"""The Envoy backend: resources are built by pure functions, served over REST xDS by a small server."""
