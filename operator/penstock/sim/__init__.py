"""Discrete-event simulation of an engine fleet under a scaling policy. Needs the extra `sim`."""
