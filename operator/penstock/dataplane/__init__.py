"""What enforces decisions per request: Envoy by xDS, or weights of an HTTPRoute."""
