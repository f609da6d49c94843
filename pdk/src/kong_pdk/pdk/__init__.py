"""The face of the PDK that plugin authors import."""
