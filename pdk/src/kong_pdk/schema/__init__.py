"""Kong's schema language: definitions of a plugin's configuration, checks of its values, and Kong's error texts."""
