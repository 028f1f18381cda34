"""Frozen values: what is asked, what is seen, what is decided."""
