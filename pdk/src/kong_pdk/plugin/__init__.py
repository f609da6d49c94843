"""Plugins on disk: found, loaded, checked and described to Kong."""

from kong_pdk.plugin.description import Description, Plugin, Source, dump, kong_schema
from kong_pdk.plugin.discovery import find
from kong_pdk.plugin.importing import keep_apart
from kong_pdk.plugin.inspection import Inspection, inspect
from kong_pdk.plugin.loading import from_class, import_problem, load
from kong_pdk.plugin.names import bundled, server_name
from kong_pdk.plugin.problem import NotAPlugin, PluginError, Problem

__all__ = [
    "Description",
    "Inspection",
    "NotAPlugin",
    "Plugin",
    "PluginError",
    "Problem",
    "Source",
    "bundled",
    "dump",
    "find",
    "from_class",
    "import_problem",
    "inspect",
    "keep_apart",
    "kong_schema",
    "load",
    "server_name",
]
