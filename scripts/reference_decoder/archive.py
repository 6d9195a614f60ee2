"""Sections 1.3, 1.4 and 2 to 4: the archive, its frames and its records."""

import hashlib
import lzma
import zlib
from dataclasses import dataclass

import coding
import form
import scratch
from errors import DamagedError, NotAnArchiveError, NotReproducedError, UnsupportedError

MAGIC = b"\x89LLZ"
FORMAT_VERSION = 1
ARITHMETIC_VERSION = 4
SOLE = b"\x84"
MAX_BODY = 2**24 + 2**16
MAX_BLOCK = 2**24


class Fields:
    """Takes one field after the other from the body of a record, or from the whole input."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, size):
        """The next `size` bytes."""
        if size > len(self.data) - self.at:
            raise DamagedError("the input, or a record, ends inside a field")
        self.at += size
        return self.data[self.at - size : self.at]

    def rest(self):
        """All bytes that are left."""
        return self.take(len(self.data) - self.at)

    def number(self, size):
        """Section 1.2: an unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def byte(self, name, low, high):
        """A u8 with a range."""
        return within(name, self.number(1), low, high)

    def varint(self, name, low, high, max_bytes=10):
        """Section 1.3: a varint with a range."""
        value = 0
        for i in range(max_bytes):
            byte = self.number(1)
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                if byte == 0 and i > 0:
                    raise DamagedError(f"{name}: not the shortest form of a number")
                return within(name, value, low, high)
        raise DamagedError(f"{name}: a number that does not end")

    def nothing_left(self):
        """Section 3.1: bytes left over are damage."""
        if self.at != len(self.data):
            raise DamagedError("a record goes on after its last field")


def within(name, value, low, high):
    """Returns `value` if it is in its range."""
    if not low <= value <= high:
        raise DamagedError(f"{name} is {value}, not {low} to {high}")
    return value


@dataclass
class ModelRecord:
    """Section 3.2."""

    window: int
    sinks: int
    all_heads_see_all: bool
    round: int | None
    biases: tuple[int, int] | None  # rate, prior
    neighbours: tuple[int, int] | None  # capacity, sharpness
    corrections: tuple[int, int, int, int] | None  # rank, matrices, pace, segment
    model_id: str
    digest: bytes
    tokenizer: bytes


def decode_archive(data, find_model, trace=None):
    """Section 2: the content of an archive. `find_model(record)` gives the model of a model record, or raises ModelError."""
    if data[:4] != MAGIC:
        raise NotAnArchiveError("this is not an llmzip archive")
    fields, content = Fields(data), []
    while True:
        content.append(decode_frame(fields, find_model, trace))
        if not data[fields.at :].strip(b"\0"):  # nothing, or zeros to the end
            return b"".join(content)
        if data[fields.at : fields.at + 4] != MAGIC:
            raise DamagedError("what follows a frame is neither another frame nor zeros to the end")


def decode_frame(fields, find_model, trace):
    """Sections 2 and 3: the content of the frame that starts here."""
    fields.take(len(MAGIC))
    if fields.data[fields.at : fields.at + 1] == SOLE:
        return sole_block(read_record(fields)[1], find_model, trace)
    version = fields.number(1)
    if version != FORMAT_VERSION:
        raise UnsupportedError(f"format version {version}")
    blocks, record = [], None
    while True:
        tag, body = read_record(fields)
        if tag == b"M":
            record = model_record(body)
        elif tag == b"C":
            blocks.append(coded_block(body, record, find_model, trace))
        elif tag == b"F":
            blocks.append(form_block(body, record, find_model, trace))
        elif tag == b"S":
            blocks.append(stored_block(body))
        elif tag == b"X":
            blocks.append(xz_block(body))
        elif tag == SOLE:
            raise DamagedError("a sole block that is not alone")
        elif tag == b"P":
            pass  # section 13.1: for repair only
        elif tag == b"E":
            content = b"".join(blocks)
            check_end(body, content)
            return content
        else:  # a record that needs nothing but its CRC checked would be passed over here
            raise UnsupportedError(f"a record of unknown kind, {tag!r}")


def read_record(fields):
    """Section 3.1: tag and body of the next record, its CRC checked."""
    start = fields.at
    tag = fields.take(1)
    body = fields.take(fields.varint("the length of a record", 0, MAX_BODY, max_bytes=5))
    crc = zlib.crc32(fields.data[start : fields.at])
    if fields.number(4) != crc:
        raise DamagedError(f"the CRC of a record, {tag!r}, differs")
    return tag, body


def model_record(body):
    """Section 3.2."""
    fields = Fields(body)
    arithmetic = fields.number(1)
    if arithmetic != ARITHMETIC_VERSION:
        raise UnsupportedError(f"arithmetic version {arithmetic}")
    window = fields.varint("window", 1, 8160)
    sinks = fields.byte("sinks", 0, 16)
    flags = fields.number(1)
    if flags > 15:
        raise UnsupportedError(f"flags {flags:#x} of a model record")
    around = fields.varint("round", 1, 4096) if flags & 3 else None
    biases = (fields.byte("rate", 1, 255), fields.byte("prior", 1, 255)) if flags & 1 else None
    neighbours = (fields.byte("capacity", 4, 20), fields.byte("sharpness", 1, 255)) if flags & 2 else None
    corrections = corrections_of(fields) if flags & 8 else None
    model_id = fields.take(fields.byte("length of the ID", 1, 200))
    if any(not 0x20 <= byte <= 0x7E for byte in model_id):
        raise DamagedError("the model's ID is not printable ASCII")
    digest, tokenizer = fields.take(10), fields.take(6)
    fields.nothing_left()
    return ModelRecord(window, sinks, bool(flags & 4), around, biases, neighbours, corrections, model_id.decode("ascii"), digest, tokenizer)


def corrections_of(fields):
    """Section 3.2: rank, matrices, pace and segment."""
    rank, matrices, pace = fields.byte("rank", 1, 16), fields.byte("matrices", 1, 7), fields.byte("pace", 1, 255)
    return rank, matrices, pace, fields.varint("segment", 1, 512)


def coded_block(body, record, find_model, trace):
    """Section 3.3."""
    fields = Fields(body)
    size = fields.varint("size", 1, MAX_BLOCK)
    symbols = fields.varint("symbols", 1, size)
    lanes = fields.varint("lanes", 1, min(symbols, 4096))
    check = fields.number(4)
    if record is None:
        raise DamagedError("a coded block before any model record")
    return coding.checked(decoded(record, find_model, size, symbols, lanes, fields.rest(), trace), check)


def form_block(body, record, find_model, trace):
    """Section 3.8."""
    fields = Fields(body)
    size = fields.varint("size", 0, MAX_BLOCK)
    packed = fields.number(1)
    if packed > 1:
        raise UnsupportedError(f"form {packed}")
    within("size", size, 1, MAX_BLOCK)
    side = Fields(fields.take(fields.varint("length of the side information", 0, form.MAX_SIDE)))
    text = fields.varint("text", 1, MAX_BLOCK)
    symbols = fields.varint("symbols", 1, text)
    lanes = fields.varint("lanes", 1, min(symbols, 4096))
    items = form.read_items(Fields(form.unpack(side)) if packed else side, size, text)
    check = fields.number(4)
    if record is None:
        raise DamagedError("a form block before any model record")
    plain = decoded(record, find_model, text, symbols, lanes, fields.rest(), trace)
    return coding.checked(form.content_of(items, plain, size), check)


def decoded(record, find_model, size, symbols, lanes, bitstream, trace):
    """The bytes of a coded block, by the network of section 14 or by a model."""
    if not scratch.is_one(record):
        return coding.decode_block(record, find_model(record), size, symbols, lanes, bitstream, trace)
    if symbols != size:
        raise NotReproducedError("a coded block is intact, but content of another size comes out")
    return scratch.decode_bytes(size, lanes, bitstream)


MODELS = {
    1: ("smollm2-135m-instruct", "9012862c1a075ede2012", "221924eedf07"),
    2: ("gemma3-270m", "0a3553858a71b1cc632c", "7974fbff9184"),
    3: ("new:small", "9f63ec5d6b87cf4ce540", "277089d91c0b"),
}
LEVELS = {  # window, symbols a lane, what there may be (the sum of 16, 32 and 64), capacity
    0: (1, None, 0, None),
    1: (512, 1024, 0, None),
    2: (768, 1024, 16, None),
    3: (1024, 2048, 16, None),
    4: (1280, 2048, 48, 14),
    5: (1280, 4096, 48, 14),
    6: (1280, 4096, 48, 15),
    7: (2048, 8192, 48, 16),
    8: (4096, 16384, 48, 17),
    9: (8156, None, 112, 18),
}


def sole_block(body, find_model, trace):
    """Section 3.9: the content of the frame that it is."""
    fields = Fields(body)
    number, parameters = fields.number(1), fields.number(1)
    digest, tokenizer = fields.take(5), fields.take(3)
    size = fields.varint("size", 1, MAX_BLOCK)
    symbols = fields.varint("symbols", 1, size)
    check = fields.number(4)
    level, parts = parameters % 16, parameters - parameters % 16
    if number not in MODELS or level not in LEVELS or parts & ~LEVELS[level][2]:
        raise UnsupportedError(f"model {number} with parameters {parameters}")
    window, lane, _, capacity = LEVELS[level]
    stated = bytes([4]) + varint(window) + bytes([4 if level else 0, (level == 9) * 4 + (parts >> 4 & 3) + (parts >> 6) * 8])
    stated += varint(32) if parts & 48 else b""
    stated += bytes([46, 3]) if parts & 16 else b""
    stated += bytes([capacity, 86]) if parts & 32 else b""
    stated += bytes([8, 7, 30, 64]) if parts & 64 else b""
    name, weights, hashed = MODELS[number]
    stated += bytes([len(name)]) + name.encode("ascii") + bytes.fromhex(weights) + bytes.fromhex(hashed)
    if hashlib.sha256(stated).digest()[:5] != digest or not bytes.fromhex(hashed).startswith(tokenizer):
        raise UnsupportedError("a model record or a tokenizer that this document does not know")
    record = model_record(stated)
    lanes = 1 if lane is None else max(1, min(symbols // lane, 4096))
    return coding.checked(decoded(record, find_model, size, symbols, lanes, fields.rest(), trace), check)


def varint(value):
    """Section 1.3, written."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups[-1] |= 0x80
        groups.append(value & 0x7F)
    return bytes(groups)


def stored_block(body):
    """Section 3.4."""
    if len(body) > MAX_BLOCK:
        raise DamagedError("a stored block is too long")
    return body


def xz_block(body):
    """Section 3.5."""
    fields = Fields(body)
    size = fields.varint("size", 0, MAX_BLOCK)
    check = fields.number(4)
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**24}])
    try:
        content = decoder.decompress(fields.rest(), size + 1)
        if not decoder.eof and len(content) <= size:  # the last byte of the stream gives no content
            content += decoder.decompress(b"", 1)
    except (lzma.LZMAError, EOFError):
        raise DamagedError("an xz block cannot be decoded") from None
    if not decoder.eof or decoder.unused_data or len(content) != size or zlib.crc32(content) != check:
        raise DamagedError("an xz block has not the content it states")
    return content


def check_end(body, content):
    """Section 3.6."""
    fields = Fields(body)
    size = fields.varint("size of the frame", 0, 2**63)
    check = fields.take(8)
    fields.nothing_left()
    if size != len(content) or check != hashlib.sha256(content).digest()[:8]:
        raise DamagedError("the content of a frame is not what its end record states")
