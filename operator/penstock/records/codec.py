"""Frozen values to plain JSON and back, driven by their types.

A field that holds its default is left out and comes back as the very default object, since the policies
tell "nothing remembered" by identity. Numbers come back bit by bit; those that JSON lacks are the strings
"+Inf", "-Inf" and "NaN", arrays are compressed bytes. Where several types are possible, a value names its
own: {"of": "TrafficReason", "is": "Learning"}.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from penstock.records import scalars
from penstock.records.fault import RecordFault
from penstock.records.special import SPECIAL

Encode = Callable[[Any], Any]
Decode = Callable[[Any, str], Any]


@cache
def encoder(kind: Any) -> Encode:
    """Return the function that turns a value of a type into what a JSON library writes."""
    if kind in SPECIAL:
        return SPECIAL[kind][0]
    if kind in scalars.WRITERS:
        return scalars.WRITERS[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _union_encoder(arguments)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            each = encoder(arguments[0])
            return lambda value: [each(one) for one in value]
        parts = [encoder(one) for one in arguments]
        return lambda value: [part(one) for part, one in zip(parts, value, strict=True)]
    if origin is not None and issubclass(origin, Mapping):
        inner = encoder(arguments[1])
        return lambda value: {str(name): inner(one) for name, one in value.items()}
    if origin is np.ndarray:
        return scalars.from_array
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value: value.value
    return _fields_encoder(kind)


@cache
def decoder(kind: Any) -> Decode:
    """Return the function that reads it back; it raises RecordFault with the path of the field."""
    if kind in SPECIAL:
        return SPECIAL[kind][1]
    if kind in scalars.READERS:
        return scalars.READERS[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _union_decoder(arguments)
    if origin is tuple:
        return _tuple_decoder(arguments)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_decoder(*arguments)
    if origin is np.ndarray:
        return scalars.to_array
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum_decoder(kind)
    return _fields_decoder(kind)


def _union_encoder(arguments: tuple[Any, ...]) -> Encode:
    kinds = [each for each in arguments if each is not NoneType]
    if len(kinds) == 1:
        only = encoder(kinds[0])
        return lambda value: None if value is None else only(value)
    encoders = {each: encoder(each) for each in kinds}

    def encode(value: Any) -> Any:
        if value is None:
            return None
        return {"of": type(value).__name__, "is": encoders[type(value)](value)}

    return encode


def _union_decoder(arguments: tuple[Any, ...]) -> Decode:
    kinds = [each for each in arguments if each is not NoneType]
    optional = len(kinds) < len(arguments)
    if len(kinds) == 1:
        only = decoder(kinds[0])
        return lambda plain, path: None if plain is None else only(plain, path)
    by_name = {each.__name__: decoder(each) for each in kinds}

    def decode(plain: Any, path: str) -> Any:
        if plain is None and optional:
            return None
        found = scalars.mapping(plain, path)
        if found.keys() != {"of", "is"} or found["of"] not in by_name:
            raise RecordFault(path, f"write {{of, is}} with one of {', '.join(by_name)}")
        return by_name[found["of"]](found["is"], path)

    return decode


def _tuple_decoder(arguments: tuple[Any, ...]) -> Decode:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        each = decoder(arguments[0])
        return lambda plain, path: tuple(
            each(one, f"{path}[{index}]") for index, one in enumerate(scalars.array(plain, path))
        )
    parts = [decoder(one) for one in arguments]

    def decode(plain: Any, path: str) -> Any:
        found = scalars.array(plain, path)
        if len(found) != len(parts):
            raise RecordFault(path, f"{len(found)} entries instead of {len(parts)}")
        pairs = zip(parts, found, strict=True)
        return tuple(part(one, f"{path}[{index}]") for index, (part, one) in enumerate(pairs))

    return decode


def _mapping_decoder(key: Any, inner: Any) -> Decode:
    of, keyed = decoder(inner), scalars.to_number_key if key is float else lambda name, _: name

    def decode(plain: Any, path: str) -> Any:
        found = scalars.mapping(plain, path)
        return {keyed(name, path): of(one, f"{path}.{name}") for name, one in found.items()}

    return decode


def _enum_decoder(kind: type[Enum]) -> Decode:
    def decode(plain: Any, path: str) -> Any:
        try:
            return kind(plain)
        except ValueError:
            known = ", ".join(str(each.value) for each in kind)
            raise RecordFault(path, f"{plain!r} is not known; known are {known}") from None

    return decode


def _fields(kind: Any) -> list[tuple[str, Any, Any]]:
    """Return name, type and default (MISSING without one) of each field, type variables filled in."""
    plain = get_origin(kind) or kind
    bound: dict[Any, Any] = dict(zip(getattr(plain, "__parameters__", ()), get_args(kind), strict=True))
    hints = get_type_hints(plain)
    return [
        (each.name, _filled(hints[each.name], bound), each.default)
        for each in dataclasses.fields(plain)
        if each.init
    ]


def _filled(hint: Any, bound: Mapping[Any, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return bound[hint]
    if bound and get_origin(hint) in (Union, UnionType):
        return Union[tuple(_filled(each, bound) for each in get_args(hint))]  # noqa: UP007 - made at run time
    return hint


def _fields_encoder(kind: Any) -> Encode:
    parts = [(name, encoder(hint), default) for name, hint, default in _fields(kind)]

    def encode(value: Any) -> Any:
        plain = {}
        for name, part, default in parts:
            one = getattr(value, name)
            if one is not default:
                plain[name] = part(one)
        return plain

    return encode


def _fields_decoder(kind: Any) -> Decode:
    make = get_origin(kind) or kind
    parts = {name: (decoder(hint), default) for name, hint, default in _fields(kind)}
    factories = {
        each.name for each in dataclasses.fields(make) if each.default_factory is not dataclasses.MISSING
    }
    needed = {name for name, (_, default) in parts.items() if default is dataclasses.MISSING} - factories

    def decode(plain: Any, path: str) -> Any:
        found = scalars.mapping(plain, path)
        scalars.refuse_unknown(found, parts, path)
        scalars.require(found, needed, path)
        below = f"{path}." if path else ""
        return make(**{name: parts[name][0](one, below + name) for name, one in found.items()})

    return decode
