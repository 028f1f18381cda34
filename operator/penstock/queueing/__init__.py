"""Queueing theory and the physics of a batching engine: numbers in, numbers out."""
