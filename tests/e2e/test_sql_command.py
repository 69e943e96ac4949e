"""promscale sql: psql on the same database."""
import os
import shutil
import subprocess

import pytest


def test_runs_psql(promscale):
    done = promscale.sql_command("-Atc", "SELECT current_database(), current_user")
    assert (done.returncode, done.stdout) == (0, "promscale|postgres\n"), done.stderr


def test_reads_stdin_and_passes_arguments(promscale):
    done = promscale.sql_command("-At", "-v", "ON_ERROR_STOP=1", "-v", "x=5", stdin="SELECT :x + 1;\n")
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr
    assert promscale.sql_command("-v", "ON_ERROR_STOP=1", stdin="SELECT 1/0;\n").returncode == 3


def test_ignores_the_environment(promscale):
    hostile = {"PGHOST": "/nowhere", "PGPORT": "1", "PGUSER": "nobody", "PGDATABASE": "nothing", "PGPASSWORD": "x",
               "PGOPTIONS": "-c search_path=nowhere", "PGSERVICE": "none"}
    done = promscale.sql_command("-Atc", "SHOW search_path", env=hostile)
    assert done.returncode == 0, done.stderr
    assert "nowhere" not in done.stdout


def test_nothing_runs(lab, promscale):
    promscale.stop()
    done = promscale.sql_command("-c", "SELECT 1")
    assert done.returncode != 0
    assert "start it with" in done.stderr
    done = promscale.sql_command("-c", "SELECT 1", data_dir=lab.folder / "never")
    assert done.returncode != 0
    assert "start it with" in done.stderr
    assert not os.path.exists(lab.folder / "never")


def test_works_after_the_connector_was_killed(promscale):
    promscale.kill()
    assert promscale.sql_command("-Atc", "SELECT 1").stdout == "1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes another user")
def test_other_users_are_sent_away(lab, promscale):
    program = shutil.copy(promscale.program, lab.folder / "program")  # the clone may be out of their reach
    done = subprocess.run([program, "sql", "--data-dir", promscale.data_dir], capture_output=True, text=True,
                          env=promscale.environment(), user="nobody", group="nogroup", extra_groups=[], check=False,
                          timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode != 0
    assert "runs as user postgres" in done.stderr


def test_arguments_for_psql_have_their_place(promscale):
    done = subprocess.run([promscale.program, "sql", "-c", "SELECT 1"], capture_output=True, text=True, check=False,
                          env=promscale.environment(), timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "promscale sql -- -c" in done.stderr
