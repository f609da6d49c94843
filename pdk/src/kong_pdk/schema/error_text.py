"""Formats the errors of a configuration as one line, like Kong's Admin API."""

from __future__ import annotations

from typing import Any

# Maps a field, or an entry of a list counted from 1, to Kong's message or to the errors inside it.
Errors = dict[str | int, Any]


def format_errors(errors: Errors, path: str = "") -> str:
    """Errors as one line, as Kong writes it: ``schema violation (config.message: expected a string)``.

    :param errors: the errors of an entity, such as ``{"config": errors}`` with the errors of
        :func:`~kong_pdk.schema.config_values.validate_config`; with ``path``, the errors of this field.
    """
    if path:
        errors = {path: errors}
    lines = [str(error) for error in errors.get("@entity", ())]
    for key in sorted((key for key in errors if key != "@entity"), key=str):
        lines.extend(_entity_lines(key, errors[key]))
    if len(lines) == 1:
        return f"schema violation ({lines[0]})"
    return f"{len(lines)} schema violations ({'; '.join(lines)})"


def _entity_lines(key: str | int, error: Any) -> list[str]:
    if isinstance(error, dict):
        return [f"{key}.{name}: {_error_text(error[name])}" for name in sorted(error, key=str)]
    return [f"{key}: {error}"]


def _numbered_from_1(error: Any) -> Any:
    return dict(enumerate(error, 1)) if isinstance(error, list) else error


def _error_text(error: Any) -> str:
    """An error as text on one line; nested errors look like a Lua table."""
    error = _numbered_from_1(error)
    if not isinstance(error, dict):
        return str(error)
    parts: list[str] = []
    for key in sorted(error, key=lambda key: (isinstance(key, str), key)):
        inner = _numbered_from_1(error[key])
        text = _error_text(inner) if isinstance(inner, dict) else f'"{inner}"'
        parts.append(text if key == len(parts) + 1 else f"{_lua_key(key)} = {text}")
    return "{ " + ", ".join(parts) + " }"


def _lua_key(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return key if key.isidentifier() else f'["{key}"]'
