"""From files to one policy: includes, networks and agents of one's own, settings, text, and the bounds of what is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crawlguard import Guard
from crawlguard.catalogue import policy_names
from crawlguard.errors import ConfigError, PolicyError
from crawlguard.loader import load_policy, parse_policy, read_policy
from crawlguard.paths import MAX_BYTES
from crawlguard.policy.model import Policy
from crawlguard.settings import with_settings

from .policy_corpus import BAD, Clock, view


def write(folder: Path, **files: str) -> Path:
    """Files of a folder by their names without ``.yaml``; the path of ``main``."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text.startswith("version") else f"version: 1\n{text}", "utf-8")
    return folder / "main.yaml"


def rules(*names: str) -> str:
    """A ``rules:`` list, each rule about a path of its own."""
    return "rules:\n" + "".join(f"  - {{id: {name}, when: {{path: /{name}$}}, then: block}}\n" for name in names)


def ids(policy: Policy | None) -> list[str]:
    assert policy is not None
    return [rule.id for rule in policy.rules]


def found(path: Path) -> list[tuple[str, str, int]]:
    return [(p.id, Path(p.file).name, p.line) for p in read_policy(path)[1]]


# ---- includes


def test_own_rules_come_first_then_the_included_ones_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main="include: [z.yaml, a.yaml]\n" + rules("own"),
        a=rules("in-a"),
        z="include: deep/y.yaml\n" + rules("in-z"),
        deep__y=rules("in-y"),
    )
    assert ids(load_policy(main)) == ["own", "in-z", "in-y", "in-a"]


def test_a_glob_takes_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    main = write(tmp_path, main="include: conf.d/*.yaml\n" + rules("own"), conf_d=rules("x"))
    for name in ("20-b", "10-a", "30-c"):
        write(tmp_path, **{f"conf.d__{name}": rules(f"from-{name}")})
    (tmp_path / "conf.d" / "40.txt").write_text("not a policy")
    assert ids(load_policy(main)) == ["own", "from-10-a", "from-20-b", "from-30-c"]


def test_a_recursive_glob_takes_folders_too(tmp_path: Path) -> None:
    main = write(tmp_path, main="include: conf.d/**/*.yaml\n", **{"conf.d__a": rules("a"), "conf.d__more__b": rules("b")})
    assert ids(load_policy(main)) == ["a", "b"]


def test_names_are_relative_to_the_file_in_which_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = write(
        tmp_path,
        main="include: sub/one.yaml\n",
        sub__one="include: two.yaml\nnetworks: {n: {file: nets.txt}}\n" + rules("one"),
        sub__two=rules("two"),
    )
    (tmp_path / "sub" / "nets.txt").write_text("203.0.113.0/24\n")
    monkeypatch.chdir(tmp_path.parent)
    policy = load_policy(main)
    assert ids(policy) == ["one", "two"]
    assert policy.networks["n"].cidrs == ("203.0.113.0/24",)
    monkeypatch.chdir(tmp_path)
    assert ids(load_policy("main.yaml")) == ["one", "two"]


def test_an_absolute_include(tmp_path: Path) -> None:
    other = write(tmp_path / "elsewhere", main=rules("far"))
    assert ids(load_policy(write(tmp_path, main=f"include: {other}\n"))) == ["far"]


def test_a_file_reached_by_two_ways_counts_once(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main="include: [left.yaml, right.yaml]\n",
        left="include: base.yaml\n" + rules("l"),
        right="include: base.yaml\n" + rules("r"),
        base=rules("b"),
    )
    assert ids(load_policy(main)) == ["l", "b", "r"]


def test_a_circle_of_includes_is_named_where_it_closes(tmp_path: Path) -> None:
    main = write(tmp_path, main="include: a.yaml\n" + rules("m"), a="include: b.yaml\n", b="include: main.yaml\n")
    assert found(main) == [("CG011", "b.yaml", 2)]


def test_a_glob_that_holds_the_policy_itself_is_a_circle(tmp_path: Path) -> None:
    assert found(write(tmp_path, main="include: '*.yaml'\n" + rules("m"))) == [("CG011", "main.yaml", 2)]


def test_disable_leaves_out_rules_of_what_this_file_includes_and_no_others(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main="include: [a.yaml, b.yaml]\ndisable: [x, z]\n" + rules("own"),
        a=rules("x", "y"),
        b="include: c.yaml\n" + rules("w"),
        c=rules("z"),
    )
    assert ids(load_policy(main)) == ["own", "y", "w"]


def test_disable_makes_room_for_a_rule_of_the_same_name(tmp_path: Path) -> None:
    main = write(tmp_path, main="include: a.yaml\ndisable: x\n" + rules("x"), a=rules("x"))
    assert ids(load_policy(main)) == ["x"]


def test_the_nearest_file_wins_a_setting(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main="include: a.yaml\nmode: enforce\nstore: memory\n" + rules("m"),
        a="mode: shadow\nlog: decisions.log\nprivacy: {addresses: keyed}\nclient_ip: {trusted_proxies: private}\n",
    )
    policy = load_policy(main)
    assert (policy.mode, policy.store.kind, policy.addresses, policy.client_ip.trusted_proxies) == (
        "enforce",
        "memory",
        "keyed",
        ("private",),
    )
    assert Path(policy.log.to) == tmp_path / "decisions.log"


def test_agents_and_networks_of_an_include_serve_the_whole_policy(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main="include: who.yaml\nrules:\n  - {id: a, when: {agent: ZedBot}, then: block}\n  - {id: n, when: {network: {tag: ours}}, then: hide}\n",
        who="agents: [{name: ZedBot, operator: Zed, category: seo, user_agent: [zedbot]}]\nnetworks: {home: {cidrs: 203.0.113.0/24, tags: ours}}\n",
    )
    guard = Guard(main, watch=False, store="memory")
    assert guard.decide(view(ua="ZedBot/1", ip="198.51.100.1")).rule == "a"
    assert guard.decide(view(ua="x", ip="203.0.113.9")).rule == "n"
    assert main.parent / "who.yaml" in map(Path, guard.policy.sources)


def test_all_bundled_policies_load_without_a_doubt() -> None:
    assert "default" in policy_names()
    for name in policy_names():
        policy, problems = read_policy(f"builtin:{name}")
        assert policy is not None
        assert problems == []
    assert ids(load_policy(None)) == ids(load_policy("builtin:default"))


def test_a_policy_object_is_taken_as_it_is() -> None:
    policy = load_policy(None)
    assert load_policy(policy) is policy


# ---- what cannot be read


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as raised:
        load_policy(tmp_path / "none.yaml")
    (problem,) = raised.value.problems
    assert (problem.id, problem.line) == ("CG001", 0)
    assert "none.yaml" in str(raised.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "main.yaml"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert [i for i, _, _ in found(path)] == ["CG035"]
    main = write(tmp_path, main="networks:\n  n: {file: big.txt}\nrules: [{id: a, when: {network: n}, then: block}]\n")
    with (tmp_path / "big.txt").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert ("CG035", "main.yaml", 3) in found(main)


@pytest.mark.parametrize("opening", ["[", "- ", "{a: ", "? "])
def test_a_hundred_thousand_opened_brackets_do_not_end_the_process(opening: str) -> None:
    code = "import sys\nfrom crawlguard.loader import parse_policy\nprint(*{p.id for p in parse_policy('version: 1\\nrules:\\n  ' + sys.argv[1] * 100_000)[1]})"
    done = subprocess.run([sys.executable, "-c", code, opening], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the process ended with {done.returncode}"
    assert set(done.stdout.split()) & {"CG002", "CG035"}


def test_an_alias_bomb_is_refused_with_little_memory() -> None:
    (bomb,) = (path for path in BAD if path.stem == "alias-bomb")
    script = (
        "import resource, sys\nfrom crawlguard.loader import read_policy\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(read_policy(sys.argv[1])[1][0].id, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(bomb)], capture_output=True, text=True, check=True)
    code, kib = done.stdout.split()
    assert code == "CG035"
    assert int(kib) < 64 << 10, f"a file of {bomb.stat().st_size} bytes took {int(kib) >> 10} MiB"


def test_one_anchor_used_often_is_no_bomb() -> None:
    nets = ", ".join(f"10.{i}.0.0/16" for i in range(200))
    text = f"version: 1\nnetworks: {{all: &nets [{nets}]}}\nrules:\n" + "".join(
        f"  - {{id: r{i}, when: {{path: /{i}$, ip: *nets}}, then: block}}\n" for i in range(40)
    )
    policy, problems = parse_policy(text)
    assert problems == []
    assert len(ids(policy)) == 40


# ---- text


def test_a_policy_given_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, other=rules("o"))
    monkeypatch.chdir(tmp_path)
    for text in ("version: 1\ninclude: other.yaml\n", b"version: 1\ninclude: other.yaml\n"):
        policy, problems = parse_policy(text, "given.yaml")
        assert problems == []
        assert ids(policy) == ["o"]
    policy, problems = parse_policy("version: 1\nrules: [{id: a, then: blok}]", "given.yaml")
    assert policy is None
    assert str(problems[0]).startswith("given.yaml:2:23: error CG007: ")


@pytest.mark.parametrize("text", ["", "\udcff", "\x00", "a" * 10_000, "version: 1\n\ud800: 1", b"\xff\xfe", b"\xef\xbb\xbf", "\x85\u2028"])
def test_any_text_gives_problems_and_no_exception(text: str | bytes) -> None:
    policy, problems = parse_policy(text)
    assert policy is None
    assert problems


def test_a_word_is_never_taken_for_false() -> None:
    policy, problems = parse_policy(
        "version: 1\nmissing_data: inactive\nrules:\n  - {id: on, when: {country: [NO, YE]}, then: {tag: [no, off, y]}, reason: yes}\n"
    )
    assert [p.id for p in problems] == ["CG101"]
    assert policy is not None
    (rule,) = policy.rules
    assert (rule.id, rule.then.tags, rule.reason) == ("on", ("no", "off", "y"), "yes")


# ---- doubts and settings


def test_warnings_do_not_stop_a_policy_and_are_kept_with_it(tmp_path: Path) -> None:
    main = write(tmp_path, main="missing_data: inactive\nrules: [{id: a, when: {asn: 5}, then: block}]\n")
    policy = load_policy(main)
    assert [(p.id, p.severity, p.line) for p in policy.warnings] == [("CG101", "warning", 3)]
    (tmp_path / "main.yaml").write_text("version: 1\nmissing_data: error\nrules: [{id: a, when: {asn: 5}, then: block}]\n")
    with pytest.raises(PolicyError) as raised:
        load_policy(main)
    assert [(p.id, p.severity) for p in raised.value.problems] == [("CG026", "error")]


def test_a_rule_in_earnest_may_follow_one_that_is_only_on_trial() -> None:
    text = "version: 1\nmode: shadow\nrules:\n  - {id: trial, when: {path: /a}, then: block}\n  - {id: earnest, when: {path: /a/b}, then: hide, mode: enforce}\n"
    assert parse_policy(text)[1] == []
    assert [p.id for p in parse_policy(text.replace("mode: shadow\n", ""))[1]] == ["CG024"]


@pytest.mark.parametrize(
    ("settings", "attribute", "value"),
    [
        ({"mode": "shadow"}, "mode", "shadow"),
        ({"store": "memory"}, "store.kind", "memory"),
        ({"log": "logging", "log_sample": 0.5}, "log.sample", 0.5),
        ({"log": Path("x.log")}, "log.to", "x.log"),
        ({"addresses": "keyed"}, "addresses", "keyed"),
        ({"trusted_proxies": "private"}, "client_ip.trusted_proxies", ("private",)),
        ({"trusted_proxies": ["10.0.0.0/8"], "client_ip_header": "forwarded"}, "client_ip.header", "forwarded"),
    ],
)
def test_settings_given_in_code_replace_those_of_the_policy(settings: dict[str, Any], attribute: str, value: object) -> None:
    found: Any = with_settings(load_policy(None), **settings)
    for name in attribute.split("."):
        found = getattr(found, name)
    assert found == value
    assert load_policy(None).mode == "enforce"


@pytest.mark.parametrize(
    "settings", [{"mod": "shadow"}, {"mode": "trial"}, {"store": "redis"}, {"addresses": "none"}, {"log_sample": "some"}, {"log_sample": 2}]
)
def test_a_wrong_setting_is_a_config_error(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Guard(None, watch=False, **{"store": "memory", **settings})


@pytest.mark.parametrize("settings", [{"trusted_proxies": "nginx"}, {"trusted_proxies": ["10.0.0.1/8"]}])
def test_a_wrong_proxy_is_a_config_error(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Guard(None, watch=False, store="memory", **settings)


def test_a_network_file_counts_among_the_sources(tmp_path: Path) -> None:
    main = write(tmp_path, main="networks: {n: {file: nets.txt, cidrs: 192.0.2.0/24}}\nrules: [{id: a, when: {network: n}, then: block}]\n")
    (tmp_path / "nets.txt").write_text("# ours\n203.0.113.0/24 # office\n\n2001:db8::/32\n")
    policy = load_policy(main)
    assert policy.networks["n"].cidrs == ("192.0.2.0/24", "203.0.113.0/24", "2001:db8::/32")
    assert tmp_path / "nets.txt" in map(Path, policy.sources)
    guard = Guard(policy, clock=Clock(), store="memory")
    assert [guard.decide(view(ip=ip)).rule for ip in ("192.0.2.1", "203.0.113.1", "2001:db8::1", "198.51.100.1")] == ["a", "a", "a", None]


def test_a_bundled_policy_that_is_none_is_named_and_nothing_else_is_said() -> None:
    policy, problems = read_policy("builtin:nope")
    assert policy is None
    assert [(p.id, p.file) for p in problems] == [("CG010", "builtin:nope")]
