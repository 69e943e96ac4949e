"""The data folder and the server in it: whose, where, locked, configured; and what is refused."""
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from harness.process import SLOW, alive, wait_until
from harness.remote_write import HEADERS, write_request

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about what promscale does as root")


def test_configuration(promscale):
    def show(name):
        return promscale.sql(f"SHOW {name}")[0][0]

    assert [show(n) for n in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums")] == ["on"] * 4
    assert show("listen_addresses") == ""
    assert show("shared_buffers") == "128MB"
    assert show("server_encoding") == "UTF8"
    assert show("lc_collate") == "C"
    assert show("TimeZone") == "UTC"
    assert show("jit") == "off"
    assert show("checkpoint_timeout") == "15min"
    assert "promscale" in show("shared_preload_libraries")
    assert show("promscale.database") == "promscale"


def test_nothing_but_the_web_port_listens(promscale):
    inodes = set()
    for pid in [promscale.process.pid, promscale.postmaster_pid(), *promscale.backend_pids()]:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(fd))
            except OSError:
                continue
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            column = line.split()
            if column[3] == "0A" and f"socket:[{column[9]}]" in inodes:
                listening.append(column[1])
    assert listening == [f"0100007F:{promscale.port:04X}"]


def test_socket_is_private(promscale):
    folder = promscale.server_file()["socket"]
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert len(f"{folder}/.s.PGSQL.5432") < 107
    assert stat.S_IMODE(os.stat(promscale.data_dir / "pg").st_mode) == 0o700


def test_other_roles_need_a_password(promscale):
    promscale.sql("CREATE ROLE somebody LOGIN")
    with pytest.raises(Exception, match="password"):
        promscale.sql("SELECT 1", user="somebody")


@as_root
def test_as_root_the_server_runs_unprivileged(promscale):
    assert os.stat(f"/proc/{promscale.postmaster_pid()}").st_uid == pwd.getpwnam("postgres").pw_uid
    assert os.stat(promscale.data_dir).st_uid == 0


@as_root
def test_folder_that_the_user_cannot_enter(lab):
    closed = lab.folder / "closed"
    closed.mkdir(mode=0o700)
    p = lab.promscale(data_dir=closed / "data", start=False)
    moved = None
    try:
        p.start()
        moved = Path(next(line.split()[-1] for line in (p.out + p.err).splitlines()
                          if "/var/lib/promscale/" in line).strip('"'))
        assert not (closed / "data").exists()
        assert p.sql_command("-Atc", "SELECT 1").stdout == "1\n"
        p.data_dir = moved
        p.sql("CREATE TABLE kept AS SELECT 5 AS x")
        p.stop()
        # the same place again, also if the one asked for could be entered by now
        closed.chmod(0o755)
        p.data_dir = closed / "data"
        p.start()
        assert not (closed / "data").exists()
        p.data_dir = moved
        assert p.sql("SELECT x FROM kept") == [(5,)]
        p.stop()
    finally:
        if moved:
            p.data_dir = moved
            p.close()
            shutil.rmtree(moved)
            if not os.listdir(moved.parent):
                moved.parent.rmdir()


def test_two_connectors_on_one_folder(lab, promscale):
    other = lab.promscale(data_dir=promscale.data_dir, start=False)
    code, said = other.run_to_end()
    other.data_dir = None  # not its database to end
    assert code != 0
    assert "in use by another promscale" in said
    assert str(promscale.process.pid) in said
    assert promscale.is_ready()


def test_foreign_folder_is_refused(lab):
    folder = lab.folder / "photos"
    folder.mkdir()
    (folder / "cat.jpg").write_text("meow")
    code, said = lab.promscale(data_dir=folder, start=False).run_to_end()
    assert code != 0
    assert "not empty" in said and "cat.jpg" in said
    assert sorted(os.listdir(folder)) == ["cat.jpg"] or sorted(os.listdir(folder)) == ["cat.jpg", "run.lock"]


def test_missing_parent_is_told(lab):
    code, said = lab.promscale(data_dir=lab.folder / "no" / "such" / "folder", start=False).run_to_end()
    assert code != 0
    assert "parent folder" in said


def test_interrupted_initdb_is_done_again(lab):
    p = lab.promscale(start=False, fresh=True)
    p.start(wait=False)
    wait_until("initdb does not begin", lambda: (p.data_dir / "pg.new" / "base").exists(), 30, every=0.005)
    p.kill()
    assert not (p.data_dir / "pg").exists()
    p.start()
    assert not (p.data_dir / "pg.new").exists()
    assert p.sql("SELECT 1") == [(1,)]


def test_other_major_version_is_refused(promscale):
    promscale.stop()
    version = promscale.data_dir / "pg" / "PG_VERSION"
    version.write_text("14\n")
    code, said = promscale.run_to_end()
    assert code != 0
    assert "PostgreSQL 14" in said and "pg_dump" in said
    version.write_text("33\n")
    code, said = promscale.run_to_end()
    assert code != 0
    assert "PostgreSQL 33" in said and "postgresql-33" in said


def test_folder_of_a_later_layout_is_refused(promscale):
    promscale.stop()
    (promscale.data_dir / "VERSION").write_text("promscale-data 99\n")
    code, said = promscale.run_to_end()
    assert code != 0
    assert "another version" in said


def test_server_that_cannot_start_says_why(promscale):
    promscale.stop()
    with open(promscale.data_dir / "pg" / "postgresql.conf", "a", encoding="utf-8") as f:
        f.write("no_such_setting = 1\n")
    code, said = promscale.run_to_end()
    assert code != 0
    assert "does not start" in said
    assert "no_such_setting" in said or "configuration" in said
    assert "pg.log" in said
    assert not (promscale.data_dir / "server").exists()


def test_settings_of_the_user_are_kept(promscale):
    promscale.stop()
    with open(promscale.data_dir / "pg" / "postgresql.conf", "a", encoding="utf-8") as f:
        f.write("work_mem = '9MB'\n")
    promscale.start()
    assert promscale.sql("SHOW work_mem") == [("9MB",)]


def test_missing_bin_dir(lab):
    code, said = lab.promscale(args=["--embedded.bin-dir", "/nowhere"], start=False, fresh=True).run_to_end()
    assert code != 0
    assert "/nowhere" in said and "bin-dir" in said


@as_root
def test_full_disk(lab):
    """A data folder on a file system that is too small: a clear error, and no half-made database."""
    small = lab.folder / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", str(small)], check=False,
                             capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("cannot mount a small file system here: " + mounted.stderr.decode().strip())
    try:
        code, said = lab.promscale(data_dir=small / "data", start=False).run_to_end()
        assert code != 0
        assert "No space left" in said
        assert not (small / "data" / "pg").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_log_is_bounded(promscale):
    log = promscale.data_dir / "pg.log"
    with open(log, "ab") as f:
        f.write(b"x" * 1023 + b"\n")
        f.truncate(17 << 20)
    wait_until("pg.log is not cut", lambda: log.stat().st_size < (1 << 20), 30)
    assert (promscale.data_dir / "pg.log.1").stat().st_size > 16 << 20
    promscale.sql("DO $$ BEGIN RAISE WARNING 'still written'; END $$")
    assert "still written" in log.read_text(errors="replace")


def test_postmaster_of_somebody_else_is_not_touched(promscale):
    """postmaster.pid after a crash and a reboot may name a process that is not a server at all."""
    promscale.stop()
    sleeper = subprocess.Popen(["sleep", str(60 * SLOW)])
    try:
        pid_file = promscale.data_dir / "pg" / "postmaster.pid"
        pid_file.write_text(f"{sleeper.pid}\n{promscale.data_dir}/pg\n1\n5432\n/nowhere\n\n  1 1\n")
        os.chmod(pid_file, 0o600)
        if os.geteuid() == 0:
            owner = os.stat(promscale.data_dir / "pg")
            os.chown(pid_file, owner.st_uid, owner.st_gid)
        promscale.start()
        assert alive(sleeper.pid)
        answer = promscale.http("POST", "/api/v1/write", write_request([]), HEADERS)
        assert answer.status < 300
    finally:
        sleeper.kill()
        sleeper.wait()
