"""The embedded gateway: Kong's side of the wire, declarative routes and a proxy, for development and tests."""
