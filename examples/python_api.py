"""llmzip from Python: bytes in, archive out, and back.

python examples/python_api.py
"""

import llmzip

text = b"The tide came in quietly, and the gauge said what the moon had promised.\n"

# Short texts: one model load serves many of them.
codec = llmzip.Codec()
archives = [codec.compress(text * n) for n in (1, 4)]
print([len(a) for a in archives], "bytes for", [len(text), 4 * len(text)])

# Archives concatenate like files do.
assert codec.decompress(archives[0] + archives[1]) == text * 5

# What is damaged is refused, never decoded to something else.
try:
    codec.decompress(archives[0][:-1])
except llmzip.LLZError as error:
    print("refused:", error)
