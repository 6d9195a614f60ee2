"""What learns the document while coding it, on top of the frozen model; nothing of it is transmitted."""
