"""Section 1.6: the classes of errors."""


class DecodingError(Exception):
    """Why the input was rejected. `kind` is the name of the class in section 1.6."""

    kind = "error"
    exit_code = 1


class NotAnArchiveError(DecodingError):
    """The input does not start as an archive does."""

    kind = "not an archive"


class DamagedError(DecodingError):
    """A check, a bound or a rule does not hold, or the input ends too early."""

    kind = "damaged"


class UnsupportedError(DecodingError):
    """A version or a record that this document does not know."""

    kind = "unsupported"


class ModelError(DecodingError):
    """The model is missing, cannot be used, or is not the one the archive was made with."""

    kind = "model"
    exit_code = 3


class NotReproducedError(DecodingError):
    """The record is intact, but the content does not come out."""

    kind = "not reproduced"
    exit_code = 3
