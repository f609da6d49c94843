"""Kong's schema language: the definition of a plugin's configuration, its values, and errors in Kong's words."""

from typing import Any

Field = dict[str, Any]
"""A field of a schema: a dict of one key, the field's name, that holds its attributes; or the attributes alone."""
