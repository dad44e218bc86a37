"""What a host hears and says: requests, client data, its retained topics, batches of frames."""
