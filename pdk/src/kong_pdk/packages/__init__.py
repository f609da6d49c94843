"""What plugins import besides the PDK: requirements.txt, the environments made of it, and how they are used.

Nothing is imported here: a plugin server needs little of it.
"""
