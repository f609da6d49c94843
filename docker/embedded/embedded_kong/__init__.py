"""The command ``kong`` of the embedded base image, and the node that it starts: the embedded gateway in a process."""
