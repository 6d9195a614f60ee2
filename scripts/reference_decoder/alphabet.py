"""Section 5: what symbols stand for, and the tokenizer's hash."""

import hashlib
import json


def byte_level():
    """Section 5.2: the byte that each character of the byte-level alphabet stands for."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(0x100 + i): b for i, b in enumerate(others)}


BYTE_LEVEL = byte_level()
ONE_BYTE = {f"<0x{b:02X}>": bytes([b]) for b in range(256)}
SPACE = "\u2581"


def token_bytes(tokenizer, number):
    """Section 5.2: the bytes of a token. `tokenizer` is the object of section 5.3."""
    token = tokenizer["tokens"][number]
    if "kind" in tokenizer:
        return ONE_BYTE.get(token, token.replace(SPACE, " ").encode("utf-8"))
    if all(c in BYTE_LEVEL for c in token) and number not in tokenizer.get("added", []):
        return bytes(BYTE_LEVEL[c] for c in token)
    return token.encode("utf-8")


def symbol_bytes(tokenizer):
    """Section 5.1: the bytes of all symbols: V tokens, then 256 raw bytes."""
    return [token_bytes(tokenizer, n) for n in range(len(tokenizer["tokens"]))] + [bytes([b]) for b in range(256)]


def tokenizer_hash(tokenizer):
    """Section 5.3: all of SHA-256; an archive holds the first 6 bytes."""
    return hashlib.sha256(json.dumps(tokenizer, sort_keys=True, separators=(",", ":")).encode("ascii")).digest()
