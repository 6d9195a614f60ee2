"""What an output has of its source: permissions, owner, group and times, where the system allows; nothing that grants more rights than that.

A bit for running as its owner, sticky bits, capabilities, access control lists and flags were given to the source, not to what is made of
it, and are never copied. Whoever could not read the source cannot read the output either.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

_ACL = "system.posix_acl_access"


def dress(made: int, name: str, like: int | None) -> None:
    """Gives a complete file what it has of its source, or, without one, the permissions of a new file.

    Args:
        made: the open file, which only its owner may use so far, and which still has no name that others know.
        name: its name for now, for systems where that takes one.
        like: the open source, which may have lost its name meanwhile; what is no file, as a pipe, counts as none.
    """
    if like is None or not stat.S_ISREG((source := os.fstat(like)).st_mode):
        umask = os.umask(0)
        os.umask(umask)
        _set_mode(made, name, 0o666 & ~umask)
        return
    same_group = _own(made, source)  # before there are permissions for a group
    mode = stat.S_IMODE(source.st_mode) & 0o777
    if not same_group or _has_acl(like):  # these bits are not meant for the group that the output has
        both = mode >> 3 & mode & 0o7
        mode = mode & 0o700 | both << 3 | both
    _set_mode(made, name, mode)
    with contextlib.suppress(OSError):
        os.utime(made if os.utime in os.supports_fd else name, ns=(source.st_atime_ns, source.st_mtime_ns))


def _own(made: int, source: os.stat_result) -> bool:
    """Sets owner and group where that is allowed; returns whether the group is the source's."""
    if not hasattr(os, "fchown"):
        return True
    for owner, group in ((source.st_uid, -1), (-1, source.st_gid)):
        with contextlib.suppress(OSError):
            os.fchown(made, owner, group)
    return os.fstat(made).st_gid == source.st_gid


def _has_acl(file: int) -> bool:
    """Whether a list says who may use the file: its group's bits in the mode are a bound on the list then, not what the group may do."""
    if not hasattr(os, "getxattr"):
        return False
    try:
        return bool(os.getxattr(file, _ACL))
    except OSError as e:
        return e.errno not in (errno.ENODATA, errno.ENOTSUP)


def _set_mode(made: int, name: str, mode: int) -> None:
    with contextlib.suppress(OSError):  # some file systems have no such thing: no reason to lose the content
        os.chmod(made if os.chmod in os.supports_fd else name, mode)
