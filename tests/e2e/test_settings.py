"""What the program says of its settings: flags, environment, file, and their errors."""
import subprocess

import pytest
from harness.process import BUILD


def run(*args, env=None):
    import os
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PROMSCALE_")}
    return subprocess.run([str(BUILD / "promscale"), *map(str, args)], capture_output=True, text=True, timeout=60, check=False,
                          env={**clean, **(env or {})})


def test_version():
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("promscale ")


def test_help_names_every_flag():
    done = run("--help")
    assert done.returncode == 0
    for flag in ("data-dir", "db.uri", "web.listen-address", "config", "self-scrape", "embedded.shared-buffers"):
        assert flag in done.stdout


@pytest.mark.parametrize("args", [["--no-such-flag"], ["--web.listen-adress", "127.0.0.1:1"], ["stray"],
                                  ["--embedded.shared-buffers", "many"]])
def test_wrong_flags(args):
    done = run(*args)
    assert done.returncode != 0
    assert args[0].lstrip("-") in done.stderr
    assert done.stdout == ""


def test_wrong_environment():
    done = run("--startup.only", env={"PROMSCALE_INGEST_MAX_SERIES": "lots"})
    assert done.returncode != 0
    assert "PROMSCALE_INGEST_MAX_SERIES" in done.stderr


def test_unknown_key_in_file(tmp_path):
    file = tmp_path / "promscale.yml"
    file.write_text("web:\n  listen-addres: 127.0.0.1:1\n")
    done = run("--config", file)
    assert done.returncode != 0
    assert "listen-addres" in done.stderr


def test_missing_file(tmp_path):
    done = run("--config", tmp_path / "none.yml")
    assert done.returncode != 0
    assert "none.yml" in done.stderr


def test_precedence(lab, tmp_path):
    """flag > environment > file > default, each seen at work on another setting."""
    file = tmp_path / "promscale.yml"
    file.write_text("embedded:\n  shared-buffers: 32MB\nself-scrape: false\nweb.telemetry-path: /from-file\n")
    p = lab.promscale(args=["--config", file, "--embedded.shared-buffers", "48MB"],
                      env={"PROMSCALE_WEB_TELEMETRY_PATH": "/from-environment",
                           "PROMSCALE_EMBEDDED_SHARED_BUFFERS": "40MB"})
    assert p.sql("SHOW shared_buffers") == [("48MB",)]
    assert p.get("/from-environment").status == 200
    assert p.get("/from-file").status == 404


def test_port_in_use(lab, promscale):
    other = lab.promscale(start=False)
    other.port = promscale.port
    code, said = other.run_to_end()
    assert code != 0
    assert str(promscale.port) in said
    assert other.postmaster_pid() is None
