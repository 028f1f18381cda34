"""Weights of an HTTPRoute: what any conformant gateway can do for us."""
