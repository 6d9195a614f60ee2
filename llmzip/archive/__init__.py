"""The archive format: records, the parser, forms of text, LZMA2, parity. Nothing here needs a model or torch."""
