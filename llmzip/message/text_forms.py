"""Messages as text: ways to write bytes that survive chat, radio, URLs and QR codes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

from llmzip.errors import DamagedMessageError


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=")


def _from_base64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _from_base32(text: str) -> bytes:
    plain = text.replace("-", "").upper()
    return base64.b32decode(plain + "=" * (-len(plain) % 8))


TEXT_FORMS: dict[str, tuple[Callable[[bytes], str], Callable[[str], bytes]]] = {
    "base64url": (_base64url, _from_base64url),
    "base32": (_base32, _from_base32),
    "hex": (bytes.hex, bytes.fromhex),
}


def write(data: bytes, form: str) -> str:
    """`data` in one of TEXT_FORMS, without padding."""
    return TEXT_FORMS[form][0](data)


def read(text: str, form: str) -> bytes:
    """The inverse. White space is ignored, and for base32 hyphens and case; for hex case.

    Raises:
        DamagedMessageError: `text` is not of this form.
    """
    plain = re.sub(r"\s+", "", text)
    try:
        data = TEXT_FORMS[form][1](plain)
    except (binascii.Error, ValueError) as e:
        raise DamagedMessageError() from e
    again = write(data, form)
    same = again == plain if form == "base64url" else again.lower() == plain.replace("-", "").lower()
    if not same:  # bits that no byte holds, padding
        raise DamagedMessageError()
    return data
