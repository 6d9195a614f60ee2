"""Models: where they come from, how they become integers, and where the result is kept."""
