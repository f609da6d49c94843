"""The embedded gateway for development and tests: Kong's side of the plugin protocols, declarative routes, a proxy."""

KONG_VERSION = "3.9.3"
"""The version of Kong whose recordings the gateway follows, and which it gives as its own."""
