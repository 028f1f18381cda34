"""No query reads another namespace's series: asked of two real servers, one of which has no others.

The second is a copy of the first from which all series of namespace `theirs` were deleted: other values
under the same names, and names that are words of PromQL. A confined query must give the same on both, or
fail alike.
"""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.prometheus_fixture import wait_until
from fakes.replayed_engine import ReplayedEngine
from penstock.metrics_source.promql_scope import scope
from penstock.metrics_source.promql_tokens import PromqlRefusedError
from penstock.sandbox.prometheus import PrometheusProcess, ScrapeTarget

pytestmark = pytest.mark.prometheus
WORDS = ("sum", "by", "offset", "or", "bool", "on", "start", "end", "group_left", "inf", "nan", "and", "avg")
MINE = 'm1{x="1"} 1\nm1{x="2"} 2\nm2{x="1"} 3\n'
THEIRS = 'm1{x="1"} 1e6\nm1{x="3"} 2e6\nm2{x="1"} 3e6\nsecret{x="1"} 4e6\n' + "".join(
    f"{each} 5e6\n" for each in WORDS
)


@dataclass(frozen=True)
class TwoServers:
    """`both` has all namespaces, `mine` only the one that queries are confined to."""

    both: PrometheusProcess
    mine: PrometheusProcess
    at: float

    def ask(self, query: str) -> tuple[object, object]:
        """Return the two answers, or the kinds of failure."""
        return self._ask(self.both, query), self._ask(self.mine, query)

    def _ask(self, process: PrometheusProcess, query: str) -> object:
        form = urllib.parse.urlencode({"query": query, "time": self.at, "timeout": "5s"}).encode()
        try:
            with urllib.request.urlopen(f"{process.url}/api/v1/query", form, timeout=10) as reply:
                data = json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            return json.load(error)["errorType"]
        if data["resultType"] != "vector":
            return json.dumps(data["result"])
        return sorted((sorted(each["metric"].items()), each["value"][1]) for each in data["result"])


@pytest.fixture(scope="module")
def servers(prometheus_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoServers]:
    homes = tmp_path_factory.mktemp("both"), tmp_path_factory.mktemp("mine")
    both, mine = (
        PrometheusProcess(0.5, home, prometheus_binary, extra_arguments=("--web.enable-admin-api",))
        for home in homes
    )
    with ReplayedEngine(MINE) as ours, ReplayedEngine(THEIRS) as others, both:
        targets = {"mine": ours.address, "theirs": others.address}
        both.set_targets(ScrapeTarget(address, {"namespace": name}) for name, address in targets.items())
        wait_until(both, "count(count_over_time(up[4s]) >= 8) == 2")
        at = float(_now(both))
        both.stop()
        both.set_targets(())
        shutil.copytree(homes[0] / "data", homes[1] / "data")
        both.start()
        with mine:
            delete = f"{mine.url}/api/v1/admin/tsdb/delete_series?match[]=%7Bnamespace=%22theirs%22%7D"
            urllib.request.urlopen(urllib.request.Request(delete, method="POST"), timeout=10).close()
            yield TwoServers(both, mine, at)


def _now(process: PrometheusProcess) -> str:
    with urllib.request.urlopen(f"{process.url}/api/v1/query?query=time()", timeout=10) as reply:
        value: str = json.load(reply)["data"]["result"][1]
    return value


ESCAPE = r'"\"} or secret{x=\""'
METRICS = st.sampled_from([*("m1", "m2", "secret") * 8, *WORDS])
STRINGS = st.sampled_from(
    ['"1"', "'1'", "`1`", '""', '".*"', '"mine"', '"theirs"', '"mine|theirs"', ESCAPE, "'}'", '`{"`']
)
LABELS = st.sampled_from(["x", "namespace", "__name__", "by", "on", "le"])
MATCHERS = st.builds("{}{}{}".format, LABELS, st.sampled_from(["=", "!=", "=~", "!~"]), STRINGS)
BRACES = st.lists(MATCHERS, max_size=3).map(lambda inside: "{" + ",".join(inside) + "}")
SELECTORS = METRICS | st.builds("{}{}".format, METRICS | st.just(""), BRACES)
RANGES = st.sampled_from(["[2s]", "[3s]", "[3s:1s]", "[3s:]"])
MODIFIERS = st.sampled_from([" offset 1s", " @ end()", " offset -1s", "[2s]"])
AGGREGATORS = st.sampled_from(["sum", "max", "count", "group", "SUM"])
GROUPINGS = st.sampled_from(["", " by (x)", " without (x)", " by (namespace, x)", " by ()"])
FUNCTIONS = st.sampled_from(["abs", "absent", "scalar", "vector", "sort", ""])
OVER_TIME = st.sampled_from(["last_over_time", "max_over_time"])
OPERATORS = st.sampled_from(
    [
        *(
            "+",
            "-",
            " or ",
            " and ",
            " unless ",
            " == bool ",
            " > ",
            " atan2 ",
            " * on(x) ",
            " or on (namespace) ",
        ),
        *("/ignoring(x) group_left(y) ", " + on() group_right "),
    ]
)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}{} ({})".format, AGGREGATORS, GROUPINGS, inner),
        st.builds("{0}({2}){1}".format, AGGREGATORS, GROUPINGS, inner),
        st.builds("{0}{2}{1}".format, inner, inner, OPERATORS),
        st.builds("{}({}{})".format, OVER_TIME, SELECTORS, RANGES),
        st.builds("{}({})".format, FUNCTIONS, inner),
        st.builds('label_replace({}, "namespace", "theirs", "x", "(.*)")'.format, inner),
        st.builds("topk({}, {})".format, st.sampled_from(["1", "scalar(secret)"]), inner),
        st.builds("{}{}".format, SELECTORS, MODIFIERS),
        st.builds("-{} # secret\n".format, inner),
    )


QUERIES = st.recursive(SELECTORS | st.sampled_from(["1", "Inf", "time()", '"secret"']), _grow, max_leaves=6)
SPLINTERS = st.sampled_from(
    [
        *"(){}[],\"'`#@=~!+-\\ \n",
        *("secret", " or secret", "or", "by", "offset", "bool", "namespace", '"}', "{}", '\\"', "on(x)"),
    ]
)


@st.composite
def _broken(draw: st.DrawFn) -> str:
    """A query with pieces put in and taken out at any place."""
    text = draw(QUERIES)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 3))
        text = text[:at] + draw(SPLINTERS) + text[at + cut :]
    return text


def _confined(query: str) -> str | None:
    try:
        return scope(query, label="namespace", value="mine").promql
    except PromqlRefusedError:
        return None


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(query=QUERIES)
def test_no_valid_query_reads_another_namespace(servers: TwoServers, query: str) -> None:
    confined = _confined(query)
    if confined is not None:
        with_others, alone = servers.ask(confined)
        assert with_others == alone, confined


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(query=_broken())
def test_no_broken_query_reads_another_namespace(servers: TwoServers, query: str) -> None:
    confined = _confined(query)
    if confined is not None:
        with_others, alone = servers.ask(confined)
        assert with_others == alone, confined


@pytest.mark.parametrize("query", ["secret", "m1", "sum(m1)", "absent(secret)", "{__name__=~'.+'}"])
def test_the_two_servers_tell_an_unconfined_query(servers: TwoServers, query: str) -> None:
    with_others, alone = servers.ask(query)
    assert with_others != alone


@pytest.mark.parametrize(
    "query",
    [
        "m1",
        "sum by (x) (m1) + on(x) m2",
        "max_over_time(m1[2s])",
        "last_over_time(sum(m1)[3s:1s])",
        "m1 @ end()",
    ],
)
def test_a_confined_query_still_reads_its_own_namespace(servers: TwoServers, query: str) -> None:
    confined = _confined(query)
    assert confined is not None
    with_others, alone = servers.ask(confined)
    assert with_others == alone
    assert isinstance(alone, list)
    assert alone
