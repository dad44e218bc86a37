"""What holds workers within their limits: cgroups where they can be had, a watch on all processes
everywhere."""
