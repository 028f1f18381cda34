"""Plugins of the whole suite."""

pytest_plugins = ["fakes.requirements_plugin", "fakes.api_servers_plugin"]
