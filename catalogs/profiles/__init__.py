"""Catalogue profiles: one YAML file for each STAC service, and how they are found and checked."""

from timesenmap.catalogs.profiles.profile import Profile, load_profile, profile_names

__all__ = ["Profile", "load_profile", "profile_names"]
