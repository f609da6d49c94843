"""A plugin on disk: find it, load it, check it, and describe it to Kong."""

from kong_pdk.plugin.authors_line import authors_line
from kong_pdk.plugin.config import validate_config
from kong_pdk.plugin.config_errors import Errors, format_declarative_errors, format_errors
from kong_pdk.plugin.description import PHASES, Description, Field, Plugin, Source, dump, kong_schema
from kong_pdk.plugin.discovery import find
from kong_pdk.plugin.given import given
from kong_pdk.plugin.inspection import Inspection, inspect
from kong_pdk.plugin.loading import import_problem, load
from kong_pdk.plugin.names import bundled, server_name
from kong_pdk.plugin.problem import NotAPlugin, PluginError, Problem
from kong_pdk.plugin.siblings import keep_apart

__all__ = [
    "PHASES",
    "Description",
    "Errors",
    "Field",
    "Inspection",
    "NotAPlugin",
    "Plugin",
    "PluginError",
    "Problem",
    "Source",
    "authors_line",
    "bundled",
    "dump",
    "find",
    "format_declarative_errors",
    "format_errors",
    "given",
    "import_problem",
    "inspect",
    "keep_apart",
    "kong_schema",
    "load",
    "server_name",
    "validate_config",
]
