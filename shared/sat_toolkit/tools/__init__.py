"""Small tools offered to plugins."""
