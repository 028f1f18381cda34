"""Scaling policies for the simulation: ours and the peers', each as its own sources state its law."""
