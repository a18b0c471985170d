"""Catalogue profiles: one YAML file for each STAC service."""
