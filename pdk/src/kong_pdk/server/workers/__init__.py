"""The processes of a plugin server: a master, which holds the sockets, and its workers, which serve."""
