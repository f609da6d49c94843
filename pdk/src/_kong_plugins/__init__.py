"""The package in which plugins are loaded: ``_kong_plugins.my_plugin``.

Its own, so that no plugin's file is taken for a library of the same name, nor its loggers for the PDK's. A process that
``multiprocessing`` spawns, or anything else that finds a class of a plugin by its module, imports them from here.
"""

from kong_pdk.plugin.importing import find_plugins_here

find_plugins_here()

# No folder: the finder alone knows the plugins.
__path__ = []
