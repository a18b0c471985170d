"""Shipped encoder weights and their model card."""
