"""Device data models, under the import names that the plugin guide fixes."""
