"""Kong's two plugin-server protocols: encodes and decodes calls, without sockets and threads."""
