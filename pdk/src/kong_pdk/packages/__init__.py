"""What plugins import besides the PDK: requirements.txt, the environments made of it, and how they are used."""

from kong_pdk.packages.activation import activate
from kong_pdk.packages.installation import install
from kong_pdk.packages.packages import Packages, locate

__all__ = ["Packages", "activate", "install", "locate"]
