"""The logs of an nginx.conf are found with their formats, as nginx itself would read them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from crawlguard_analyzer.nginxconf import _tokens, log_formats
from hypothesis import given, settings
from hypothesis import strategies as st

from crawlguard.errors import DataError

CONF = r"""
user www-data; # log_format no '$remote_addr';
http {
    include mime.types;
    log_format main '$remote_addr - $remote_user [$time_local] "$request" '
                    '$status $body_bytes_sent "$http_referer" '
                    '"$http_user_agent" "$http_x_forwarded_for"'; log_format  json escape=json
        "{\"time\":\"$time_iso8601\",\"ip\":\"$remote_addr\","
        "\"request\":\"$request\",\"status\":$status}";
    log_format odd 'host=${host} [$time_local] $remote_addr "$request" # no comment; $status';
    access_log /var/log/nginx/access.log;
    access_log off;
    include sites/*.conf;
    server { location ~ "^/a{2}" { access_log /var/log/nginx/odd.log odd buffer=32k flush=5m if=$request_method; } }
}
"""
SITE = "server {\n access_log /var/log/nginx/site.log main;\n access_log syslog:server=[::1] main; access_log /var/log/$host.log main;\n access_log 'logs/with blank.json' json; }"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "a.conf").write_text(SITE)
    (tmp_path / "nginx.conf").write_text(CONF)
    return tmp_path / "nginx.conf"


def test_logs_and_their_formats(conf: Path) -> None:
    found = {
        str(log.path.relative_to(conf.parent) if conf.parent in log.path.parents else log.path): log.format for log in log_formats(conf)
    }
    assert {path: one.name for path, one in found.items()} == {
        "/var/log/nginx/access.log": "nginx/Apache combined",
        "/var/log/nginx/site.log": "nginx log_format main (as combined)",
        "logs/with blank.json": "nginx log_format json",
        "/var/log/nginx/odd.log": "nginx log_format odd",
    }
    line = b'host=e.org [10/Oct/2026:13:55:36 +0200] 203.0.113.9 "GET / HTTP/1.1" # no comment; 200'
    assert found["/var/log/nginx/odd.log"].parse(line).rows.select("ip", "target", "status", "host").row(0) == (
        "203.0.113.9",
        "/",
        200,
        "e.org",
    )
    line = b'{"time":"2026-10-10T13:55:36+02:00","ip":"203.0.113.9","request":"GET /x HTTP/1.1","status":404}'
    assert found["logs/with blank.json"].parse(line).rows.select("ip", "target", "status").row(0) == ("203.0.113.9", "/x", 404)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http { }", "no access_log"),
        ("access_log /a main;", r"nginx.conf:1: log_format main is not defined"),
        ("\nlog_format x '$status';\naccess_log /a x;", r"nginx.conf:2: nginx log_format x: no field holds the client"),
        ("log_format x '$status", "nginx.conf:1: not nginx's syntax"),
        ("include nginx.conf;", "does a file include itself"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "nginx.conf").write_text(text)
    with pytest.raises(DataError, match=words):
        log_formats(tmp_path / "nginx.conf")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        log_formats(tmp_path / "none.conf")


@settings(deadline=None)
@given(st.text(alphabet="a \"'\\{};#$\n", max_size=40))
def test_any_text_is_cut_or_refused(text: str) -> None:
    try:
        found = list(_tokens(text, Path("x")))
    except DataError:
        return
    assert sum(len(word) + len(sign) for word, sign, _ in found) <= len(text)


def test_nginx_reads_it_too(conf: Path) -> None:
    (conf.parent / "mime.types").write_text("")
    text = CONF.replace("user www-data;", f"pid {conf.parent}/pid; events {{}} error_log stderr;").replace(
        "/var/log/nginx", str(conf.parent)
    )
    conf.write_text(text)
    (conf.parent / "sites" / "a.conf").write_text(
        SITE.replace("/var/log/nginx", str(conf.parent)).replace("/var/log", str(conf.parent)).replace("'logs/", f"'{conf.parent}/")
    )
    done = subprocess.run(["nginx", "-t", "-c", str(conf)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(log_formats(conf)) == 4
