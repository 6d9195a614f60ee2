"""Copies permissions, owner, group and times from a source to its output, as far as the system allows.

Set-user-ID and sticky bits, capabilities, access control lists and flags were granted to the source, not to what is made of it, and are never
copied. Whoever could not read the source cannot read the output either.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading

_ACL = "system.posix_acl_access"
_umask = threading.Lock()  # held while the process has another umask than its own


def copy_permissions(made: int, name: str, like: int | None) -> None:
    """Give a finished file the permissions, owner, group and times of its source, or without a source the permissions of a new file.

    Args:
        made: the open file. So far only its owner may use it, and no other program knows its name.
        name: its present name, for systems whose calls need one.
        like: the open source, which may have lost its name meanwhile. None, or something other than a file, as a pipe, counts as no source.
    """
    if like is None or not stat.S_ISREG((source := os.fstat(like)).st_mode):
        with _umask:
            umask = os.umask(0)
            os.umask(umask)
        _set_mode(made, name, 0o666 & ~umask)
        return
    same_group = _own(made, source)  # before the group gets permissions
    mode = stat.S_IMODE(source.st_mode) & 0o777
    if not same_group or _has_acl(like):  # the bits were meant for another group than the output's
        both = mode >> 3 & mode & 0o7
        mode = mode & 0o700 | both << 3 | both
    _set_mode(made, name, mode)
    with contextlib.suppress(OSError):
        os.utime(made if os.utime in os.supports_fd else name, ns=(source.st_atime_ns, source.st_mtime_ns))


def _own(made: int, source: os.stat_result) -> bool:
    """Set owner and group where that is allowed; return whether the group is the source's."""
    if not hasattr(os, "fchown"):
        return True
    for owner, group in ((source.st_uid, -1), (-1, source.st_gid)):
        with contextlib.suppress(OSError):
            os.fchown(made, owner, group)
    return os.fstat(made).st_gid == source.st_gid


def _has_acl(file: int) -> bool:
    """Whether the file has an access control list. Then the group's bits in its mode are a bound for that list, not the group's rights."""
    if not hasattr(os, "getxattr"):
        return False
    try:
        return bool(os.getxattr(file, _ACL))
    except OSError as e:
        return e.errno not in (errno.ENODATA, errno.ENOTSUP)


def _set_mode(made: int, name: str, mode: int) -> None:
    with contextlib.suppress(OSError):  # some file systems have no such thing: no reason to lose the content
        os.chmod(made if os.chmod in os.supports_fd else name, mode)
