"""Rollups of several hosts become one: states and files, on disk and in an object store, each counted once; what does not fit is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from crawlguard_analyzer.merging import MARK, merge_states, write_rollup
from crawlguard_analyzer.rollup import SCHEMA, merge, rollup
from crawlguard_analyzer.rows import ROWS
from crawlguard_analyzer.state import MANIFEST, State

from crawlguard.errors import DataError

from .object_store import ObjectStore, object_store


def part(number: int) -> pl.DataFrame:
    """What a few requests of three clients come to."""
    rows = {
        "time": [number * 60, number * 60 + 7],
        "ip": [f"10.0.0.{number % 3}", "2001:db8::1"],
        "method": ["GET", "HEAD"],
        "target": [f"/{number}", "/a.css"],
        "status": [200, 404],
        "bytes": [5, -1],
        "spent": [-1, 12],
    }
    return rollup(
        pl.DataFrame(rows)
        .with_columns(pl.lit("").alias(n) for n in ROWS if n not in rows)
        .cast({"status": pl.Int16, "spent": pl.Int32})
        .select(*ROWS)
    )


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """The states of two hosts: parts 1 and 2, and part 3."""
    for number, host in ((1, "one"), (2, "one"), (3, "two")):
        State(tmp_path / host).commit(part(number), {})
    return tmp_path


@pytest.fixture
def store(hosts: Path) -> Iterator[ObjectStore]:
    """The same, copied to a bucket."""
    with object_store() as found:
        for path in hosts.rglob("*.*"):
            found.objects[f"logs/states/{path.relative_to(hosts)}"] = path.read_bytes()
        yield found


ALL = merge(part(n) for n in (1, 2, 3))


def test_states_of_several_hosts_are_one_in_any_order(hosts: Path) -> None:
    one, two = str(hosts / "one"), str(hosts / "two")
    assert merge_states([one, two]).equals(ALL)
    assert merge_states([two, one]).equals(ALL)
    assert merge_states([one]).equals(State(one).read())


def test_a_state_that_is_named_twice_counts_once(hosts: Path) -> None:
    (hosts / "link").symlink_to(hosts / "one")
    assert merge_states([f"{hosts}/*", f"{hosts}/two/", f"{hosts}/link", f"{hosts}/one/../one"]).equals(ALL)


def test_a_part_that_the_manifest_does_not_name_never_happened(hosts: Path) -> None:
    part(4).write_parquet(hosts / "two" / "part-000009.parquet")
    assert merge_states([f"{hosts}/*"]).equals(ALL)


def test_rollup_files_merge_with_states(hosts: Path) -> None:
    write_rollup(part(3), f"{hosts}/three.parquet")
    write_rollup(part(4), f"{hosts}/four.parquet")
    assert merge_states([f"{hosts}/one", f"{hosts}/*.parquet"]).equals(merge(part(n) for n in (1, 2, 3, 4)))
    assert merge_states([f"{hosts}/one", f"{hosts}/three.parquet"]).equals(ALL)


def test_an_empty_rollup_is_one_too(tmp_path: Path) -> None:
    write_rollup(merge([]), f"{tmp_path}/nothing.parquet")
    State(tmp_path / "state").commit(merge([]), {})
    found = merge_states([f"{tmp_path}/nothing.parquet", f"{tmp_path}/state"])
    assert (found.height, found.schema) == (0, pl.Schema(SCHEMA))


def test_an_object_store_holds_states_and_files(store: ObjectStore) -> None:
    assert merge_states(["s3://logs/states/one", "s3://logs/states/two"], store.options).equals(ALL)
    assert merge_states(["s3://logs/states/*"], store.options).equals(ALL)
    write_rollup(part(4), "s3://logs/more/four.parquet", store.options)
    found = merge_states(["s3://logs/states/*/", "s3://logs/more/*.parquet", "s3://logs/more/four.parquet"], store.options)
    assert found.equals(merge(part(n) for n in (1, 2, 3, 4)))


def test_its_place_and_credentials_may_come_from_the_environment(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in store.options.items():
        monkeypatch.setenv(name.upper(), value)
    assert merge_states(["s3://logs/states/one", "s3://logs/states/two"]).equals(ALL)


def test_a_web_server_will_do(store: ObjectStore) -> None:
    assert merge_states([f"{store.url}/logs/states/one", f"{store.url}/logs/states/two"]).equals(ALL)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"version": 99}, "not made by this version of crawlguard"),
        ({"hash": 1}, "polars hashes otherwise"),
        ({"parts": ["../../secret.parquet"]}, "no manifest of a state"),
        ({"parts": "part"}, "no manifest of a state"),
        ({"parts": None}, "no manifest of a state"),
        ({"parts": ["part-000077.parquet"]}, "copy the manifest last"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named(hosts: Path, changed: dict[str, object], says: str) -> None:
    manifest = hosts / "two" / MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **changed}))
    with pytest.raises(DataError, match=says) as found:
        merge_states([f"{hosts}/one", f"{hosts}/two"])
    assert str(manifest.parent) in str(found.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"version": 1}', "\0\xff"])
def test_what_is_no_manifest_is_named(hosts: Path, text: str) -> None:
    (hosts / "two" / MANIFEST).write_text(text, "latin-1")
    with pytest.raises(DataError, match=r"two/state\.json: (no|cannot)"):
        merge_states([f"{hosts}/two"])


@pytest.mark.parametrize("name", ["nowhere", "no*where", "nowhere.parquet", "no*where.parquet"])
def test_what_is_not_there_is_named_and_not_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"nowhere|no[*]where"):
        merge_states([f"{tmp_path}/{name}"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mark", "says"), [({}, "not made by this version"), ({**MARK, "crawlguard.hash": "1"}, "polars hashes otherwise")]
)
def test_a_file_must_say_what_it_was_made_with(tmp_path: Path, mark: dict[str, str], says: str) -> None:
    part(1).write_parquet(tmp_path / "a.parquet", metadata=dict(mark))
    with pytest.raises(DataError, match=says):
        merge_states([f"{tmp_path}/a.parquet"])


def test_a_file_that_is_none_or_has_other_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("PAR1 is how it would begin")
    part(1).drop("hours").write_parquet(tmp_path / "other.parquet", metadata=dict(MARK))
    for name in ("text", "other"):
        with pytest.raises(DataError, match=f"{name}.parquet: cannot be used"):
            merge_states([f"{tmp_path}/{name}.parquet"])


def test_a_store_that_refuses_is_named(store: ObjectStore) -> None:
    with pytest.raises(DataError, match=r"s3://logs/states/three/state\.json: cannot be used"):
        merge_states(["s3://logs/states/three"], store.options)
    with pytest.raises(DataError, match=r"all\.rollup: a rollup file's name ends with \.parquet"):
        write_rollup(ALL, "s3://logs/all.rollup", store.options)
