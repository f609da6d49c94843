"""Kong's schema language: the definition of a plugin's configuration, its values, and errors in Kong's words."""
