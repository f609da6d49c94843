"""``scripts/audit.py``: what it says of a bill of materials, with a database of this machine in the place of OSV's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "audit.py"
NO_DATABASE = 75
SBOM = {
    "components": [
        {"purl": "pkg:pypi/kong-python@0.1.0"},
        {"purl": "pkg:pypi/alpha@1.0"},
        {"purl": "pkg:pypi/zope.event@6.2%2Blocal"},
    ]
}
ADVISORY = {
    "id": "PYSEC-0000-1",
    "aliases": ["CVE-0000-0001"],
    "summary": "of a test",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "alpha", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
            "versions": ["1.0"],
        }
    ],
}
Audit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sbom(tmp_path: Path) -> Path:
    file = tmp_path / "sbom.json"
    file.write_text(json.dumps(SBOM))
    return file


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "{}", '{"components": [{"name": "x"}]}', '{"components": 1}'])
def test_what_is_no_bill_of_materials(sbom: Path, content: str) -> None:
    sbom.write_text(content)
    done = subprocess.run([sys.executable, SCRIPT, sbom], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no bill of materials" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def audit(sbom: Path) -> Audit:
    """Run the script. Skip the test where pip-audit cannot be installed."""

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, SCRIPT, sbom, *options], capture_output=True, text=True, env={"NO_PROXY": "*"}, check=False
        )
        if "pip-audit cannot be installed" in done.stderr:
            pytest.skip(done.stderr.strip())
        return done

    return run


@pytest.fixture
def database() -> Iterator[Database]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Database(server)
        finally:
            _silence.set()
            server.shutdown()
            thread.join()
            _silence.clear()


_silence = Event()


class Database:
    """OSV's API: what it knows of each package, and the packages that it was asked for."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.asked: list[tuple[str, str]] = []
        self.known: dict[str, list[object]] = {}
        self.status = 200
        self.is_silent = False
        server.database = self  # type: ignore[attr-defined]
        host, port = server.server_address[:2]
        self.options = ("--vulnerability-service=osv", f"--osv-url=http://{host!s}:{port}/v1/query")


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        database: Database = self.server.database  # type: ignore[attr-defined]
        query = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = query["package"]["name"]
        database.asked.append((name, query["version"]))
        if database.is_silent:
            _silence.wait()
            return
        body = json.dumps({"vulns": database.known.get(name, [])}).encode()
        self.send_response(database.status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_no_known_advisory(audit: Audit, database: Database) -> None:
    """Our own name is not asked for: another project may have it there."""
    done = audit(*database.options)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "2 packages, no known advisories" in done.stderr
    assert sorted(database.asked) == [("alpha", "1.0"), ("zope-event", "6.2+local")]


def test_a_known_advisory(audit: Audit, database: Database) -> None:
    database.known["alpha"] = [ADVISORY]
    done = audit(*database.options)
    assert done.returncode == 1, done.stderr
    assert done.stdout == "alpha 1.0: PYSEC-0000-1, CVE-0000-0001; fixed in 1.1\n"
    assert audit(*database.options, "--ignore-vuln=PYSEC-0000-1").returncode == 0


def test_a_database_that_fails(audit: Audit, database: Database) -> None:
    database.status = 500
    done = audit(*database.options)
    assert done.returncode == NO_DATABASE
    assert done.stderr.startswith("scripts/audit.py: not checked: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_database_that_does_not_answer(audit: Audit, database: Database) -> None:
    database.is_silent = True
    done = audit(*database.options)
    assert done.returncode == NO_DATABASE
    assert done.stderr.startswith("scripts/audit.py: not checked: ")


def test_no_docker(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "kong-python"], capture_output=True, text=True, env={"PATH": str(tmp_path)},
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "scripts/audit.py: docker is not installed\n"
