"""Plugins of the whole suite, and how property tests run in it."""

import os
import signal

import structlog
from hypothesis import settings

# A shell that starts the suite in the background has it ignore Ctrl-C, and with it the commands under test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Values that are frozen by mypy alone are frozen by Python too while tests run (penstock.model.value).
os.environ.setdefault("PENSTOCK_FROZEN_VALUES", "1")

# As the operator logs on a console. The default formatter takes seconds to show every local variable.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

pytest_plugins = ["fakes.requirements_plugin", "fakes.api_servers_plugin", "fakes.longest_first_plugin"]

# Two busy cores stall any example for 200 ms, Hypothesis's deadline, now and then.
settings.register_profile("penstock", deadline=None)
settings.load_profile("penstock")
