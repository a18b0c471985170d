"""Descriptions of clusters for --cluster, one of each kind."""
