"""The exact inference engine: integer matrix products, and operations that round the same everywhere."""
