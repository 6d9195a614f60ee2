"""Archives as Python file objects, like those of the standard library's `lzma`."""
