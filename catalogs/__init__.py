"""Where scenes come from: catalogue profiles, search, radiometry, and the demonstration scene.

A catalogue is asked once a run; what comes back is a list of scenes, each an item whose assets, footprint and
radiometry have been checked, so that nothing downstream needs to know which service it came from.
"""

from timesenmap.catalogs.bands import BANDS, SCL, find_asset
from timesenmap.catalogs.errors import CatalogError, ServiceError
from timesenmap.catalogs.profiles import Profile, load_profile, profile_names
from timesenmap.catalogs.radiometry import Scaling, reflectance_scaling
from timesenmap.catalogs.scenes import Scene, scene_from_item
from timesenmap.catalogs.search import Refused, SceneSearch, find_scenes
from timesenmap.catalogs.transport import BackOff

__all__ = [
    "BANDS",
    "SCL",
    "BackOff",
    "CatalogError",
    "Profile",
    "Refused",
    "Scaling",
    "Scene",
    "SceneSearch",
    "ServiceError",
    "find_asset",
    "find_scenes",
    "load_profile",
    "profile_names",
    "reflectance_scaling",
    "scene_from_item",
]
