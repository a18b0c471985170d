"""Shipped prompt sets, one YAML file each."""
