"""Plugins of the whole suite."""

pytest_plugins = ["fakes.requirements_plugin"]
