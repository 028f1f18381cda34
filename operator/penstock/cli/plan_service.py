"""The InferenceService of ``-f``: the first one in a YAML file, a List, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from penstock.cli.plan_fault import PlanFault
from penstock.cli.standard_streams import require_input
from penstock.model.parse import GROUP, VERSION, InvalidSpec, parse_service
from penstock.model.spec import ServiceSpec

KIND = "InferenceService"
# What PyYAML raises for a value that is not of its kind: 2026-02-30, !!timestamp abc, !!bool abc, !!int "".
_NO_VALUE = (ValueError, AttributeError, LookupError, ArithmeticError)
_SHOWN = 40  # characters of it
_EXAMPLE = "manifests/samples/chat.yaml shows one"


class _Loader(yaml.SafeLoader):
    """The safe loader, which also says where a value stands that is not of its kind."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:  # noqa: FBT001, FBT002 - PyYAML's
        """Return the object of a node. Raises ConstructorError with its place."""
        try:
            return super().construct_object(node, deep)
        except _NO_VALUE as error:
            kind, text = node.tag.rpartition(":")[2], str(node.value)[:_SHOWN]
            raise yaml.constructor.ConstructorError(
                problem=f"{text!r} is no {kind}", problem_mark=node.start_mark
            ) from error


def read_service(path: Path) -> ServiceSpec:
    """Return the first InferenceService in the file (``-`` is standard input). Raises PlanFault."""
    name = "standard input" if str(path) == "-" else str(path)
    kinds = []
    for document in _objects(name, _text(path, name)):
        api, kind = str(document.get("apiVersion", "")), str(document.get("kind", ""))
        if kind == KIND and api.partition("/")[0] == GROUP:
            if api != f"{GROUP}/{VERSION}":
                raise PlanFault(f"{name}: apiVersion {api} is not known", f"write {GROUP}/{VERSION}")
            try:
                return parse_service(document)
            except InvalidSpec as error:
                raise PlanFault(f"{name}: {error.path}: {error.cause}", error.fix) from error
        kinds.append(f"{kind or 'no kind'} ({api or 'no apiVersion'})")
    if not kinds:
        raise PlanFault(f"{name} is empty", f"write an InferenceService; {_EXAMPLE}")
    found = ", ".join(dict.fromkeys(kinds))
    raise PlanFault(
        f"{name} has no {KIND} of {GROUP}, only {found}",
        f"add a document with apiVersion: {GROUP}/{VERSION} and kind: {KIND}; {_EXAMPLE}",
    )


def _text(path: Path, name: str) -> str:
    try:
        if str(path) != "-":
            return path.read_text(encoding="utf-8")
        require_input()
        return sys.stdin.read()
    except OSError as error:
        raise PlanFault(
            f"{name} cannot be read: {error.strerror}",
            "give a file that can be read, or - for standard input",
        ) from error
    except UnicodeDecodeError as error:
        raise PlanFault(f"{name} is not text: byte {error.start} is not UTF-8", "give a YAML file") from error


def _objects(name: str, text: str) -> Iterator[Mapping[str, object]]:
    """Yield the objects of all documents, those of a List one by one."""
    try:
        for position, document in enumerate(yaml.load_all(text, _Loader), start=1):
            if document is None:
                continue
            if not isinstance(document, Mapping):
                raise PlanFault(
                    f"{name}, document {position}: a {type(document).__name__} instead of an object",
                    f"write an {KIND}; {_EXAMPLE}",
                )
            items = document.get("items")
            if isinstance(items, list) and str(document.get("kind", "")).endswith("List"):
                yield from (item for item in items if isinstance(item, Mapping))
            else:
                yield document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise PlanFault(f"{name}{place}: {error.problem or error}", "correct the YAML") from error
    except yaml.YAMLError as error:
        raise PlanFault(f"{name}: {' '.join(str(error).split())}", "correct the YAML") from error
    except RecursionError as error:
        raise PlanFault(f"{name}: nested too deeply", "correct the YAML") from error
