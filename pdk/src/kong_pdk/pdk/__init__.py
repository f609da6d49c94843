"""The types of the PDK that plugin authors import."""
