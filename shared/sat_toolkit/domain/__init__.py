"""The second import name of the device models."""
