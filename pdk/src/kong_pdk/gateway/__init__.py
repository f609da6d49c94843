"""The embedded gateway for development and tests: Kong's side of the plugin protocols, declarative routes, a proxy."""
