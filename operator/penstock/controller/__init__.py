"""The control loop: watch, tick, apply. The only package that imports kopf."""
