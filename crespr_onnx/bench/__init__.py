"""Times models side by side and holds them against what the machine can do at best."""
