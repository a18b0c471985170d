"""Job files for make-map, each to be copied and edited."""
