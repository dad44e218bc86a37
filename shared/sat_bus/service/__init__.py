"""What each service is made of: its work loop, its frame from start to exit status, and the desk
for requests."""
