"""Confines any PromQL to one namespace: every selector gets the matcher ``namespace="..."``.

The operator's own matchers (a cluster's, in a Thanos of several) come along. Matchers of one selector are
all required, so a further one can only narrow: a user's own ``namespace="other"`` gives nothing.
The query is read by its whole grammar (promql/parser/generated_parser.y) and written anew from what was
understood; what is not understood is refused, such as names in quotes, ``or`` between matchers
(VictoriaMetrics) and info(), which reads series unnamed.
promql-parser 0.11 was tried for this: it writes changed matchers without escaping their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from penstock.metrics_source.identity import quoted
from penstock.metrics_source.promql_tokens import Kind, PromqlRefusedError, Token, duration_seconds, tokens_of
from penstock.metrics_source.promql_words import (
    AGGREGATORS,
    FUNCTIONS,
    GROUPING,
    JOINING,
    KEYWORDS,
    MATCH_OPERATORS,
    MATCHING,
    SYMBOL_OPERATORS,
    WORD_OPERATORS,
)

LONGEST_QUERY = 4096
DEEPEST_NESTING = 32
LONGEST_RANGE_SECONDS = 6 * 3600.0
LONGEST_OFFSET_SECONDS = 8 * 86400.0
# Points of a subquery, multiplied through nested ones: what Prometheus allows a range query.
MOST_SUBQUERY_POINTS = 11_000
# Prometheus's default resolution is its evaluation interval, 15 s as the chart sets it.
DEFAULT_STEP_SECONDS = 15.0
NO_MORE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ScopedQuery:
    """A confined query, and its selectors without ranges and offsets (to ask for their age)."""

    promql: str
    selectors: tuple[str, ...]


def scope(promql: str, *, label: str, value: str, more: Mapping[str, str] = NO_MORE) -> ScopedQuery:
    """Confine `promql` to series whose `label` is `value`, and so for `more`; raises `PromqlRefusedError`."""
    if len(promql) > LONGEST_QUERY:
        raise PromqlRefusedError(f"it has {len(promql)} characters: {LONGEST_QUERY} are allowed")
    if any("\ud800" <= each <= "\udfff" or each == "\0" for each in promql):
        raise PromqlRefusedError("it holds a character that is not text")
    matchers = ",".join(f"{name}={quoted(each)}" for name, each in ((label, value), *more.items()))
    reader = _Reader(tokens_of(promql), matchers)
    reader.expression()
    reader.expect_end()
    return ScopedQuery(" ".join(reader.written), tuple(dict.fromkeys(reader.selectors)))


@dataclass(slots=True)
class _Reader:
    """Recursive descent over the tokens; precedence does not matter for what is written anew."""

    tokens: list[Token]
    matchers: str
    position: int = 0
    depth: int = 0
    written: list[str] = field(default_factory=list)
    selectors: list[str] = field(default_factory=list)

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    @property
    def word(self) -> str:
        """The token's text if it is a name, in lower case: keywords are not case-sensitive."""
        return self.token.text.lower() if self.token.kind is Kind.IDENTIFIER else ""

    def expression(self) -> float:
        """Read an expression; return how many points its subqueries evaluate at most."""
        self.depth += 1
        if self.depth > DEEPEST_NESTING:
            raise PromqlRefusedError(f"it nests deeper than {DEEPEST_NESTING} levels")
        points = self._operand()
        while self.word in WORD_OPERATORS or self.token.text in SYMBOL_OPERATORS:
            self._take()
            if self.word == "bool":
                self._take()
            if self.word in MATCHING:
                self._take()
                self._labels()
                if self.word in JOINING:
                    self._take()
                    if self.token.text == "(":
                        self._labels()
            points = max(points, self._operand())
        self.depth -= 1
        return points

    def expect_end(self) -> None:
        if self.token.kind is not Kind.END:
            raise self._unexpected("an operator or the end")

    def _operand(self) -> float:
        while self.token.text in ("+", "-"):
            self._take()
        points = self._primary()
        while True:
            if self.token.kind is Kind.RANGE:
                points = self._range(points)
            elif self.word == "offset":
                self._offset()
            elif self.token.text == "@":
                self._at()
            else:
                return points

    def _primary(self) -> float:
        token, word = self.token, self.word
        if token.text == "(":
            return self._arguments()
        if word in AGGREGATORS:
            return self._aggregate()
        if (
            token.kind is Kind.IDENTIFIER
            and self.tokens[self.position + 1].text == "("
            and word not in KEYWORDS
        ):
            if token.text not in FUNCTIONS:
                raise PromqlRefusedError(f"the function {token.text} is not known or not allowed")
            self._take()
            return self._arguments()
        if token.kind in (Kind.NUMBER, Kind.DURATION, Kind.STRING) or word in ("inf", "nan"):
            self._take()
        elif word in KEYWORDS:
            raise self._unexpected('a value (a metric of that name is written {__name__="..."})')
        elif token.kind is Kind.IDENTIFIER or token.text == "{":
            self._selector()
        else:
            raise self._unexpected("a metric, a number or a function")
        return 1.0

    def _aggregate(self) -> float:
        self._take()
        grouped = self._grouping()
        points = self._arguments()
        if not grouped:
            self._grouping()
        return points

    def _grouping(self) -> bool:
        if self.word not in GROUPING:
            return False
        self._take()
        self._labels()
        return True

    def _arguments(self) -> float:
        self._symbol("(")
        points = 1.0
        if self.token.text != ")":
            points = self.expression()
            while self.token.text == ",":
                self._take()
                points = max(points, self.expression())
        self._symbol(")")
        return points

    def _labels(self) -> None:
        self._symbol("(")
        while self.token.kind is Kind.IDENTIFIER:
            self._take()
            if self.token.text != ",":
                break
            self._take()
        self._symbol(")")

    def _selector(self) -> None:
        name = ""
        if self.token.kind is Kind.IDENTIFIER:
            name = self._skip().text
        matchers = []
        if self.token.text == "{":
            self._skip()
            while self.token.text != "}":
                matchers.append(self._matcher())
                if self.token.text != ",":
                    break
                self._skip()
            if self.token.text != "}":
                raise self._unexpected("a comma or a closing brace")
            self._skip()
        selector = f"{name}{{{','.join([*matchers, self.matchers])}}}"
        self.selectors.append(selector)
        self.written.append(selector)

    def _matcher(self) -> str:
        if self.token.kind is Kind.STRING:
            raise PromqlRefusedError(
                'names in quotes are not supported: a metric can be written {__name__="the.name"}'
            )
        if self.token.kind is not Kind.IDENTIFIER or ":" in self.token.text:
            raise self._unexpected("a label")
        label = self._skip().text
        if self.token.text not in MATCH_OPERATORS:
            raise self._unexpected("one of = != =~ !~")
        operator = self._skip().text
        text = self._skip()
        if text.kind is not Kind.STRING:
            raise PromqlRefusedError(f"the value of the matcher on {label} must be a string in quotes")
        return f"{label}{operator}{text.text}"

    def _offset(self) -> None:
        self._take()
        if self.token.text == "-":
            self._take()
        if self.token.kind is not Kind.DURATION:
            raise self._unexpected("a duration such as 5m")
        if duration_seconds(self.token.text) > LONGEST_OFFSET_SECONDS:
            raise PromqlRefusedError(f"the offset {self.token.text} is longer than 8 days")
        self._take()

    def _at(self) -> None:
        self._take()
        if self.word in ("start", "end"):
            self._take()
            self._symbol("(")
            self._symbol(")")
            return
        if self.token.text in ("+", "-"):
            self._take()
        if self.token.kind is not Kind.NUMBER:
            raise self._unexpected("a time in Unix seconds, start() or end()")
        self._take()

    def _range(self, points: float) -> float:
        covered, subquery, step = self.token.text.partition(":")
        seconds = duration_seconds(covered)
        if seconds > LONGEST_RANGE_SECONDS:
            hours = LONGEST_RANGE_SECONDS / 3600
            raise PromqlRefusedError(f"the range {self.token.text} is longer than {hours:g} hours")
        self._take()
        if not subquery:
            return points
        points *= max(1.0, seconds / (duration_seconds(step) or DEFAULT_STEP_SECONDS))
        if points > MOST_SUBQUERY_POINTS:
            raise PromqlRefusedError(
                f"its subqueries evaluate {points:.0f} points, {MOST_SUBQUERY_POINTS} are allowed: "
                "shorten the range or lengthen the step"
            )
        return points

    def _symbol(self, text: str) -> None:
        if self.token.text != text:
            raise self._unexpected(text)
        self._take()

    def _take(self) -> None:
        self.written.append(self._skip().text)

    def _skip(self) -> Token:
        token = self.token
        self.position += 1
        return token

    def _unexpected(self, wanted: str) -> PromqlRefusedError:
        found = f"{self.token.text!r}" if self.token.text else "the end"
        return PromqlRefusedError(f"{found} at character {self.token.at + 1}, where {wanted} is expected")
