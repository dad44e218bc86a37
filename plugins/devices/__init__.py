"""Device families. The plugin loader adds the folders that settings name to this package's path."""
