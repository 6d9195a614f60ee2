"""The archive's bytes: records, the parser, forms of text, LZMA2, parity. Nothing here knows a model or torch."""
