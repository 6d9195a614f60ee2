"""What an output has of its source: never more rights than that was meant to give, whoever runs the program."""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from llmzip.system.output_files import writing
from tests.cli.test_cli_files import here, llmzip  # noqa: F401  a fixture
from tests.support.strangers import NOBODY, ROOT, unprivileged

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("here"),
    pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's"),
]
NOISE = random.Random(1).randbytes(5000)
LAST_YEAR = 1_000_000_000_123_456_789  # in nanoseconds
# cap_setuid, effective and permitted, as `setcap` writes it
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 7, 0, 0, 0)
OWNER, USER, GROUP, MASK, OTHER, NO_ID = 0x01, 0x02, 0x04, 0x10, 0x20, 0xFFFFFFFF


def attributed(name: str, attribute: str, value: bytes) -> bool:
    """Gives a file an extended attribute; whether this system has such."""
    try:
        os.setxattr(name, attribute, value)
        return True
    except (OSError, AttributeError):
        return False


def rights(name: str) -> tuple[int, int, int, list[str]]:
    found = os.stat(name)
    attributes = [a for a in os.listxattr(name) if a != "security.selinux"] if hasattr(os, "listxattr") else []
    return found.st_mode & 0o7777, found.st_uid, found.st_gid, attributes


def archive() -> bytes:
    return llmzip("-c", stdin=NOISE).stdout_bytes


def damaged_with_parity() -> bytes:
    whole = bytearray(llmzip("-c", "--parity", "30", stdin=NOISE).stdout_bytes)
    whole[1000] ^= 1
    return bytes(whole)


def damaged() -> bytes:
    cut = bytearray(archive() + archive())
    cut[1000] ^= 1
    return bytes(cut)


WAYS = {
    "compressed": (lambda: NOISE, ["-o", "out", "in"]),
    "verified": (lambda: NOISE, ["--verify", "-o", "out", "in"]),
    "decompressed": (archive, ["-d", "-o", "out", "in"]),
    "mended": (damaged_with_parity, ["-d", "-o", "out", "in"]),
    "repaired": (damaged_with_parity, ["repair", "-o", "out", "in"]),
    "salvaged": (damaged, ["-d", "--salvage", "-o", "out", "in"]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("given", "wanted"), [(0o4755, 0o755), (0o6711, 0o711), (0o2770, 0o770), (0o1644, 0o644), (0o7400, 0o400)])
def test_permissions_owner_and_times_and_nothing_else(way: str, given: int, wanted: int) -> None:
    make, command = WAYS[way]
    Path("in").write_bytes(make())  # type: ignore[no-untyped-call]
    owner = (NOBODY, NOBODY - 1) if ROOT else (os.geteuid(), os.getegid())
    os.chown("in", *owner)
    os.chmod("in", given)
    attributed("in", "security.capability", CAPABILITY)
    attributed("in", "user.note", b"mine")
    os.utime("in", ns=(LAST_YEAR, LAST_YEAR))
    llmzip(*command)
    assert rights("out") == (wanted, *owner, [])
    assert os.stat("out").st_mtime_ns == LAST_YEAR


def test_what_was_there_gives_nothing_either() -> None:
    Path("in").write_bytes(NOISE)
    os.chmod("in", 0o640)
    Path("out").write_bytes(b"")
    os.chmod("out", 0o6777)
    attributed("out", "security.capability", CAPABILITY)
    assert llmzip("-f", "-o", "out", "in").exit_code == 0
    assert rights("out") == (0o640, os.geteuid(), os.getegid(), [])


@pytest.mark.parametrize(
    ("owner", "given", "wanted"),
    [
        ((None, NOBODY), 0o4754, 0o744),  # who is not of the group could read only, and so can the output's group
        ((None, NOBODY), 0o2670, 0o600),
        ((None, NOBODY), 0o607, 0o600),  # the group was shut out: nobody may get in by leaving it
        ((NOBODY, NOBODY), 0o6755, 0o755),
        ((NOBODY, NOBODY), 0o764, 0o744),
        ((NOBODY, None), 0o4764, 0o764),
    ],
)
def test_nobody_gains_where_owner_and_group_cannot_be_set(owner: tuple[int | None, int | None], given: int, wanted: int) -> None:
    if not ROOT:
        pytest.skip("only the administrator can give files away")
    Path("in").write_bytes(NOISE)
    os.chown("in", *(os.geteuid() if who is None else who for who in owner))
    os.chmod("in", given)
    os.chmod(".", 0o777)
    subprocess.run(unprivileged(sys.executable, "-m", "llmzip", "-o", "out", "in"), check=True)
    assert rights("out") == (wanted, os.geteuid(), os.getegid(), [])


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An access control list as the system keeps it; each entry a kind, permissions and whose."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def test_a_list_of_users_opens_the_output_to_no_group() -> None:
    """With such a list, the group's bits of the mode are those of the user with most rights, and the group may have none."""
    Path("in").write_bytes(NOISE)
    os.chmod("in", 0o660)
    listed = acl((OWNER, 6, NO_ID), (USER, 6, NOBODY), (GROUP, 0, NO_ID), (MASK, 6, NO_ID), (OTHER, 0, NO_ID))
    has_lists = attributed("in", "system.posix_acl_access", listed)
    assert os.stat("in").st_mode & 0o777 == 0o660
    assert llmzip("-o", "out", "in").exit_code == 0
    assert rights("out")[0] == (0o600 if has_lists else 0o660)
    assert rights("out")[3] == []


def test_for_its_owner_alone_until_it_is_whole() -> None:
    Path("in").write_bytes(NOISE)
    os.chmod("in", 0o666)
    with open("in", "rb") as source, writing("out", False, source) as sink:
        sink.write(NOISE)
        assert os.fstat(sink.fileno()).st_mode & 0o7777 == 0o600
    assert rights("out")[0] == 0o666


def test_a_pipe_is_nothing_to_be_like() -> None:
    reader, writer = os.pipe()
    before = os.umask(0o027)
    try:
        with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb"), writing("out", False, source) as sink:
            sink.write(NOISE)
    finally:
        os.umask(before)
    assert rights("out")[0] == 0o640


def test_systems_without_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some have no `fchown`, and neither modes nor times for open files; others refuse all of them."""
    Path("in").write_bytes(NOISE)
    os.chmod("in", 0o640)
    os.utime("in", ns=(LAST_YEAR, LAST_YEAR))
    with monkeypatch.context() as patch:
        patch.delattr(os, "fchown")
        patch.setattr(os, "supports_fd", set())
        patch.delattr(os, "getxattr", raising=False)
        assert llmzip("-o", "there", "in").exit_code == 0
    assert (rights("there")[0], os.stat("there").st_mtime_ns) == (0o640, LAST_YEAR)

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    with monkeypatch.context() as patch:
        for name in ("fchown", "chmod", "utime"):
            patch.setattr(os, name, refused)
        assert llmzip("-o", "elsewhere", "in").exit_code == 0
    assert rights("elsewhere")[0] == 0o600
    assert Path("elsewhere").read_bytes() == Path("there").read_bytes()
