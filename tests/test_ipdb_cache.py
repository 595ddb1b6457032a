"""The address table's file in the cache: built once, mapped by all, replaced when it is not whole, done without where none can be."""

from __future__ import annotations

import ipaddress
import pickle
from pathlib import Path

import pytest

from crawlguard import ipdb
from crawlguard.ipdb import AddressTable, build_table
from crawlguard.policy.ruleset import AddressSet

from .conftest import SHARED

SET = AddressSet(8, ("10.0.0.0/8",))


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRAWLGUARD_STATE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    return tmp_path / "cache"


SMALL_DB = str(SHARED / "mmdb" / "maxmind_test" / "GeoLite2-ASN-Test.mmdb")
GOOGLE = packed("1.0.0.1"), 15169


def built(**changes: tuple[str, ...]) -> AddressTable:
    return build_table([AddressSet(8, changes.get("cidrs", ("10.0.0.0/8",)))], SMALL_DB, None)


def only(cache: Path) -> Path:
    (found,) = cache.iterdir()
    return found


def put(path: Path, content: bytes) -> None:
    """Another file under the name: cutting the mapped one itself would take the ground from under its tables."""
    path.unlink()
    path.write_bytes(content)


def test_a_second_build_maps_the_first_ones_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = built()
    before = only(cache).stat()
    monkeypatch.setattr(ipdb, "_build", lambda *args: pytest.fail("built twice"))
    second = built()
    after = only(cache).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert first.lookup(GOOGLE[0])[1] == second.lookup(GOOGLE[0])[1] == GOOGLE[1]
    assert str(only(cache)) in Path("/proc/self/maps").read_text()


def test_other_ingredients_make_another_file(cache: Path, tmp_path: Path) -> None:
    built()
    built(cidrs=("10.0.0.0/9",))
    assert len(list(cache.iterdir())) == 2
    copy = tmp_path / "GeoLite2-ASN-Test.mmdb"
    copy.write_bytes(Path(SMALL_DB).read_bytes())
    build_table([SET], str(copy), None)
    assert len(list(cache.iterdir())) == 3


def test_a_small_table_leaves_the_cache_alone(cache: Path) -> None:
    build_table([SET], None, None)
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.5, 0.9, 0.99, 0.999, 1.0 - 1e-9])
def test_a_truncated_file_is_built_anew(cache: Path, share: float) -> None:
    expected = built()
    whole = only(cache).read_bytes()
    put(only(cache), whole[: int(len(whole) * share)])
    table = built()
    for address in ("1.0.0.1", "10.0.0.1", "255.255.255.255", "2600:6000::1", "::"):
        assert table.lookup(packed(address)) == expected.lookup(packed(address))
    assert only(cache).read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [b"", b"not a table", b"CGADDR01", b"CGADDR01" + b"\xff" * 100, b"CGADDR01" + (2).to_bytes(8, "little") + b"[]", b"CGADDR01" + (2).to_bytes(8, "little") + b"{}", bytes(100_000)],
    ids=["empty", "text", "magic", "length", "list", "bare", "zeros"],
)  # fmt: skip
def test_a_foreign_file_is_replaced(cache: Path, content: bytes) -> None:
    built()
    whole = only(cache).read_bytes()
    put(only(cache), content)
    assert built().lookup(GOOGLE[0])[1] == GOOGLE[1]
    assert only(cache).read_bytes() == whole


def test_without_a_cache_the_table_is_built_in_memory(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipdb, "private_dir", lambda kind: None)
    assert built().lookup(GOOGLE[0])[1] == GOOGLE[1]


def test_a_cache_that_takes_no_file_falls_back_to_memory(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = cache.parent / "gone"  # what is handed out for a cache, and is there no more when the file is written
    monkeypatch.setattr(ipdb, "private_dir", lambda kind: gone)
    assert built().lookup(GOOGLE[0])[1] == GOOGLE[1]
    assert not gone.exists()


def test_a_table_travels_by_content(cache: Path) -> None:
    """To a process, or a machine, that has no such file."""
    here = built()
    there = pickle.loads(pickle.dumps(here))
    for address in ("10.1.2.3", "1.0.0.1", "2001:db8::1", "198.51.100.1"):
        assert there.lookup(packed(address)) == here.lookup(packed(address))
    assert there.lookup(GOOGLE[0])[1] == GOOGLE[1]
