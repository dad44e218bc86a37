"""What `sat up` runs: which programs, how they are watched over, and what is shown of them."""
