"""llmzip next to the other compressors of this machine: sizes, speeds, and when the model has paid for itself."""
