"""Capacity planning: where pods would go in a live cluster as it stands, with hosts that it does not have yet."""
