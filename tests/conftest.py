"""Plugins of the whole suite, and how property tests run in it."""

from hypothesis import settings

pytest_plugins = ["fakes.requirements_plugin", "fakes.api_servers_plugin"]

# Two busy cores stall any example for 200 ms, Hypothesis's deadline, now and then.
settings.register_profile("penstock", deadline=None)
settings.load_profile("penstock")
