"""What becomes of a user's query: confined, or refused with the place and the reason."""

from __future__ import annotations

import pytest

from penstock.metrics_source.promql_scope import LONGEST_QUERY, scope
from penstock.metrics_source.promql_tokens import PromqlRefusedError

A_VALUE = 'a value (a metric of that name is written {__name__="..."})'


def scoped(promql: str) -> str:
    return scope(promql, label="namespace", value="prod").promql


@pytest.mark.parametrize(
    ("promql", "expected"),
    [
        ("up", 'up{namespace="prod"}'),
        ("{job='x'}", "{job='x',namespace=\"prod\"}"),
        ("{}", '{namespace="prod"}'),
        ('up{job="x",}', 'up{job="x",namespace="prod"}'),
        ('{__name__=~".+"}', '{__name__=~".+",namespace="prod"}'),
        # A namespace of the user's own stays beside ours: both must hold, so it can only narrow.
        ('up{namespace="other"}', 'up{namespace="other",namespace="prod"}'),
        ('up{namespace=~".*"}', 'up{namespace=~".*",namespace="prod"}'),
        ("a:b:c", 'a:b:c{namespace="prod"}'),
        ("rate(x[5m])", 'rate ( x{namespace="prod"} [5m] )'),
        ("sum(x) by (pod)", 'sum ( x{namespace="prod"} ) by ( pod )'),
        ("SUM BY (pod, ) (x)", 'SUM BY ( pod , ) ( x{namespace="prod"} )'),
        ("x / on(a) group_left(b) y", 'x{namespace="prod"} / on ( a ) group_left ( b ) y{namespace="prod"}'),
        ("x == bool y", 'x{namespace="prod"} == bool y{namespace="prod"}'),
        (
            "a and b or c unless d",
            'a{namespace="prod"} and b{namespace="prod"} or c{namespace="prod"} unless d{namespace="prod"}',
        ),
        ("-x ^ -2", '- x{namespace="prod"} ^ - 2'),
        ("x offset -5m", 'x{namespace="prod"} offset - 5m'),
        ("x @ end() offset 1h", 'x{namespace="prod"} @ end ( ) offset 1h'),
        ("x @ 1609746000.5", 'x{namespace="prod"} @ 1609746000.5'),
        (
            "max_over_time(rate(x[1m])[10m:30s])",
            'max_over_time ( rate ( x{namespace="prod"} [1m] ) [10m:30s] )',
        ),
        ("x[5m:] ", 'x{namespace="prod"} [5m:]'),
        ("Inf + NaN + 0x1F + 1e-3 + .5", "Inf + NaN + 0x1F + 1e-3 + .5"),
        ("time() - 5m", "time ( ) - 5m"),
        # What is inside a string opens and ends nothing.
        (r'x{a="\"} or y{b=\""}', r'x{a="\"} or y{b=\"",namespace="prod"}'),
        (r"x{a='}'} # }", "x{a='}',namespace=\"prod\"}"),
        ('x{a=`"} or y{b="\\`}', 'x{a=`"} or y{b="\\`,namespace="prod"}'),
        (
            'label_replace(x, "namespace", "other", "", "")',
            'label_replace ( x{namespace="prod"} , "namespace" , "other" , "" , "" )',
        ),
        ("x # } or y\n+ z", 'x{namespace="prod"} + z{namespace="prod"}'),
    ],
)
def test_every_selector_gets_the_matcher(promql: str, expected: str) -> None:
    assert scoped(promql) == expected


@pytest.mark.parametrize(
    ("promql", "message"),
    [
        ("", "the end at character 1, where a metric, a number or a function is expected"),
        ("sum(x", "the end at character 6, where ) is expected"),
        ("x y", "'y' at character 3, where an operator or the end is expected"),
        ("x{a=b}", "the value of the matcher on a must be a string in quotes"),
        ('x{a="1" or b="2"}', "'or' at character 9, where a comma or a closing brace is expected"),
        ('{"x"}', 'names in quotes are not supported: a metric can be written {__name__="the.name"}'),
        ('x{"a"="b"}', 'names in quotes are not supported: a metric can be written {__name__="the.name"}'),
        ('x{a:b="c"}', "'a:b' at character 3, where a label is expected"),
        ("info(x)", "the function info is not known or not allowed"),
        ("evil(x)", "the function evil is not known or not allowed"),
        ("WITH (y = x) y", "the function WITH is not known or not allowed"),
        # Words may be metrics in PromQL; which reading applies is not left to chance.
        ("sum + x", "'+' at character 5, where ( is expected"),
        ("offset -5m", f"'offset' at character 1, where {A_VALUE} is expected"),
        ("or or or", f"'or' at character 1, where {A_VALUE} is expected"),
        ("x offset y", "'y' at character 10, where a duration such as 5m is expected"),
        ("x[y]", "'[y]' at character 2 is not PromQL"),
        ('"open', "'\"open' at character 1 is not PromQL"),
        ('"a\nb"', "'\"a\\nb\"' at character 1 is not PromQL"),
        ('x{a="b"}; y', "'; y' at character 9 is not PromQL"),
        ("12ab", "'12ab' at character 1 is not PromQL"),
        ("x[7h]", "the range [7h] is longer than 6 hours"),
        ("x offset 9d", "the offset 9d is longer than 8 days"),
        (
            "max_over_time(x[6h:1s])",
            "its subqueries evaluate 21600 points, 11000 are allowed: shorten the range or lengthen the step",
        ),
        (
            "max_over_time(min_over_time(x[1h:1m])[6h:1m])",
            "its subqueries evaluate 21600 points, 11000 are allowed: shorten the range or lengthen the step",
        ),
        ("(" * 40 + "x" + ")" * 40, "it nests deeper than 32 levels"),
        ("x + " * 2000 + "x", f"it has 8001 characters: {LONGEST_QUERY} are allowed"),
        ('x{a="\ud800"}', "it holds a character that is not text"),
    ],
)
def test_what_is_not_understood_is_refused(promql: str, message: str) -> None:
    with pytest.raises(PromqlRefusedError) as caught:
        scoped(promql)
    assert str(caught.value) == message


def test_the_namespace_is_quoted_like_any_string() -> None:
    assert scope("x", label="ns", value='a"} or x{').promql == r'x{ns="a\"} or x{"}'


def test_selectors_are_told_without_range_and_offset_and_once() -> None:
    query = scope('rate(x{a="b"}[5m] offset 1h) / rate(x{a="b"}[1m]) + y', label="namespace", value="p")
    assert query.selectors == ('x{a="b",namespace="p"}', 'y{namespace="p"}')
