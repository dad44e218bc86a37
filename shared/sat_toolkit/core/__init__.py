"""The plugin base classes, the lifecycle, the loader and the in-process device manager."""
