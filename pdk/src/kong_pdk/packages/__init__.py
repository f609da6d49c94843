"""The packages that plugins import: requirements.txt, the environments installed from it, and their use.

``kong_pdk.packages.activation`` is all that a plugin server of the image imports of it.
"""
