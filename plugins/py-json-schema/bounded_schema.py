"""A validator for a JSON Schema whose time and memory are limited, whatever the client sends."""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import re2
from jsonschema import FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import Draft202012Validator, extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from .strict_json import Malformed, parse, short

_LONGEST_REASON = 300
_MOST_NAMES = 5
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")

Errors = Iterator[ValidationError]

_references_left: ContextVar[list[int] | None] = ContextVar("_references_left", default=None)


class TooManyReferences(Exception):
    """The check of a value follows too many references and is aborted."""


def compile_schema(text: str) -> Any:
    """Make a validator from the text of a schema. It never fetches anything.

    :raises ValueError: the schema is broken, or could fail during a request.
    """
    try:
        schema = parse(text.encode("utf-8", "surrogateescape"))
    except Malformed as error:
        raise ValueError(f"the schema is not valid JSON: {error}") from None
    if not isinstance(schema, dict):
        raise ValueError("the schema must be a JSON object")
    # With $schema in the schema, jsonschema would use its own class instead of the one below.
    draft = schema.pop("$schema", Draft202012Validator.META_SCHEMA["$schema"])
    stock = validator_for({"$schema": draft}, default=None) if isinstance(draft, str) else None
    if stock is None:
        raise ValueError(f'the schema has the unknown "$schema" {draft!r}; use a draft from draft-04 to 2020-12')
    try:
        stock.check_schema(schema, format_checker=FormatChecker(formats=()))
    except SchemaError as error:
        what = short(error.message, _LONGEST_REASON)
        raise ValueError(f"the schema breaks the rules of JSON Schema at {error.json_path}: {what}") from None
    _check_parts(schema, draft)
    counted = {name: _counted(stock.VALIDATORS[name]) for name in _REFERENCES if name in stock.VALIDATORS}
    validator = extend(stock, {**_BOUNDED, **counted})(schema, registry=Registry())
    _check_end(validator)
    return validator


def errors_of(validator: Any, value: Any, most_errors: int, most_references: int) -> list[ValidationError]:
    """Check a value.

    :param most_errors: the number of errors after which the check ends.
    :param most_references: the limit of references to follow. If a schema refers to itself among alternatives, each
        level of the value may double their number.
    :raises TooManyReferences: the check would follow more references.
    """
    before = _references_left.set([most_references])
    try:
        return list(itertools.islice(validator.iter_errors(value), most_errors))
    finally:
        _references_left.reset(before)


def reason_for(error: ValidationError) -> str:
    """Describe the rule that a value breaks."""
    if error.validator is None:  # the schema ``false``
        return "is not allowed"
    if error.validator in _WORDED:
        return short(error.message, _LONGEST_REASON)
    return short(f'must satisfy "{error.validator}": {json.dumps(error.validator_value)}', _LONGEST_REASON)


# Checks of the schema when it is configured.


def _check_parts(schema: dict[str, Any], draft: str) -> None:
    """Check every part of a schema, including parts that only a reference reaches.

    :raises ValueError: a reference out of the schema, a pattern that RE2 does not support, or unlimited keywords.
    """
    specification = specification_with(draft)
    root = specification.create_resource(schema)
    parts: list[tuple[Any, Any]] = [(root, Registry().resolver_with_root(root))]
    seen: set[int] = set()
    keywords: set[str] = set()
    while parts:
        part, resolver = parts.pop()
        if not isinstance(part.contents, dict) or id(part.contents) in seen:
            continue
        seen.add(id(part.contents))
        keywords |= part.contents.keys()
        parts += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]
        for reference in [part.contents[keyword] for keyword in _REFERENCES if keyword in part.contents]:
            found = _lookup(resolver, reference)
            parts.append((specification.create_resource(found.contents), found.resolver))
        for pattern in [part.contents.get("pattern", ""), *part.contents.get("patternProperties", ())]:
            _check_pattern(pattern)
    if "$schema" in keywords:
        raise ValueError('the schema has a "$schema" inside; only the one at its top can count')
    if "patternProperties" in keywords and "unevaluatedProperties" in keywords:
        raise ValueError(
            'the schema has "patternProperties" and "unevaluatedProperties", which cannot be bounded together; '
            'use "additionalProperties"'
        )


def _lookup(resolver: Any, reference: str) -> Any:
    try:
        return resolver.lookup(reference)
    except Unresolvable:
        raise ValueError(f'the schema has no part "{reference}"; a reference cannot lead out of the schema') from None


def _check_pattern(pattern: str) -> None:
    try:
        _regex(pattern)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise ValueError(
            f"the schema has the pattern {pattern!r}, which RE2 does not know ({reason}); write it without "
            "lookaround, back references and counts over 1000"
        ) from None


def _check_end(validator: Any) -> None:
    samples: tuple[Any, ...] = (None, 0, "", [], {})
    try:
        for sample in samples:
            validator.is_valid(sample)
    except RecursionError:
        raise ValueError("the schema refers to itself without an end; fix its references") from None


# These keywords replace jsonschema's own. Those search with Python's ``re``, in which a text can cause exponential time
# and ``$`` also matches before a newline; they collect all errors of all alternatives; and they compare all pairs of
# items.


def _counted(follow: Callable[..., Any]) -> Callable[..., Any]:
    def reference(validator: Any, target: Any, instance: Any, schema: Any) -> Any:
        left = _references_left.get()
        if left is not None:
            if left[0] == 0:
                raise TooManyReferences
            left[0] -= 1
        return follow(validator, target, instance, schema)

    return reference


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Errors:
    if isinstance(instance, str) and not _regex(pattern).search(instance):
        yield ValidationError("does not match")


def _pattern_properties(validator: Any, patterns: dict[str, Any], instance: Any, schema: Any) -> Errors:
    for pattern, inner in patterns.items() if isinstance(instance, dict) else ():
        for name, value in instance.items():
            if _regex(pattern).search(name):
                yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Errors:
    if not isinstance(instance, dict) or allowed is True:
        return
    known = schema.get("properties", {})
    patterns = [_regex(pattern) for pattern in schema.get("patternProperties", ())]
    extra = [name for name in instance if name not in known and not any(each.search(name) for each in patterns)]
    if allowed is not False:
        for name in extra:
            yield from validator.descend(instance[name], allowed, path=name)
    elif extra:
        shown = ", ".join(json.dumps(short(name)) for name in extra[:_MOST_NAMES])
        more = f" and {len(extra) - _MOST_NAMES} more" if len(extra) > _MOST_NAMES else ""
        yield ValidationError(f"has properties that are not allowed: {shown}{more}")


def _required(validator: Any, names: list[str], instance: Any, schema: Any) -> Errors:
    for name in names if isinstance(instance, dict) else ():
        if name not in instance:
            yield ValidationError(f"lacks the property {json.dumps(name)}")


def _any_of(validator: Any, schemas: list[Any], instance: Any, schema: Any) -> Errors:
    if not any(_fits(validator, instance, each) for each in schemas):
        yield ValidationError('fits none of the schemas of "anyOf"')


def _one_of(validator: Any, schemas: list[Any], instance: Any, schema: Any) -> Errors:
    fitting = sum(_fits(validator, instance, each) for each in schemas)
    if fitting != 1:
        yield ValidationError(f'fits {fitting or "none"} of the schemas of "oneOf", not one')


def _fits(validator: Any, instance: Any, schema: Any) -> bool:
    return next(validator.descend(instance, schema), None) is None


def _unique_items(validator: Any, unique: bool, instance: Any, schema: Any) -> Errors:
    if unique and isinstance(instance, list) and len({_frozen(item) for item in instance}) != len(instance):
        yield ValidationError("are not unique")


def _frozen(value: Any) -> Any:
    """Give a hashable value that is equal for equal JSON values only: 1 is 1.0, but not true.

    Numbers are hashed as text, since a client can choose thousands of numbers with the same hash.
    """
    if isinstance(value, dict):
        return frozenset((name, _frozen(item)) for name, item in value.items())
    if isinstance(value, list):
        return ("array", *map(_frozen, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ("boolean", value) if isinstance(value, bool) else value
    return "number", repr(int(value) if isinstance(value, float) and value.is_integer() else value)


_BOUNDED = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "required": _required,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "uniqueItems": _unique_items,
}
# Keywords with error messages of their own; for others the message shows the keyword and its value.
_WORDED = frozenset({"required", "additionalProperties", "anyOf", "oneOf"})


@functools.lru_cache(maxsize=1024)
def _regex(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    # The only escape of ECMAScript that RE2 writes differently.
    spelt = re.sub(r"\\(?:u([0-9a-fA-F]{4})|.)", lambda found: rf"\x{{{found[1]}}}" if found[1] else found[0], pattern)
    return re2.compile(spelt, options=options)
