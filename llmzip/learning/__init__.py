"""How corrections of a model's matrices are learned from the symbols that were coded: gradients through the model, and steps."""
