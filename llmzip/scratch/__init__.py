"""A network that starts from nothing and learns every byte it codes: contexts, matches and a mixer. No weights are fetched, and none are sent."""
