"""Archives as Python file objects, in the manner of the standard library's `lzma`."""
