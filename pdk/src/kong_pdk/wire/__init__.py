"""Kong's two plugin-server protocols: bytes to calls and back, without sockets or threads."""
