"""No room: for the tables, or for the log. Writers get 503 and nothing that was acknowledged is lost; when there is room
again, everything goes on by itself (after a start of the server, where PostgreSQL has stopped)."""
import contextlib
import os
import subprocess
import time

import pytest
from examine import examine
from harness.process import wait_until
from http_ledger import HttpLedger

ARGS = ["--self-scrape=false", "--ingest.timeout=1s"]
CONF = ("shared_preload_libraries = 'promscale'\npromscale.database = 'promscale'\npromscale.maintenance_interval = 200ms\n"
        "checkpoint_timeout = 30s\n")


@contextlib.contextmanager
def small_disk(folder, megabytes):
    """A file system of that size which the server's user may write to."""
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "tmpfs", folder],
                                           stderr=subprocess.DEVNULL, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


class Ballast:
    """A file that leaves only so much room."""

    def __init__(self, disk, leave_kb):
        self.path = disk / "ballast"
        free_kb = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize // 1024
        with open(self.path, "wb") as f:
            os.posix_fallocate(f.fileno(), 0, max(1, free_kb - leave_kb) * 1024)

    def drop(self):
        self.path.unlink()


def test_no_room_for_tables(lab):
    disk = lab.folder / "disk"
    with small_disk(disk, 64):
        cluster = lab.cluster(conf=CONF)
        (disk / "space").mkdir()
        os.chmod(disk / "space", 0o777)
        subprocess.run(["chown", "postgres", disk / "space"], check=True)
        cluster.sql(f"CREATE TABLESPACE small LOCATION '{disk / 'space'}'")
        cluster.sql("CREATE DATABASE promscale TABLESPACE small")
        try:
            run_out_of_room(lab, cluster, disk, 700)
        finally:
            cluster.close()


def test_no_room_for_the_log(lab):
    """PostgreSQL stops; whoever runs it makes room and starts it again."""
    disk = lab.folder / "disk"
    with small_disk(disk, 64):
        subprocess.run(["chown", "postgres", disk], check=True)
        cluster = lab.cluster(conf=CONF + "max_wal_size = 8MB\nmin_wal_size = 2MB\n", initdb_args=(
            "--locale=C", "--encoding=UTF8", "--wal-segsize=1",
            f"--waldir={disk / 'wal'}"))
        cluster.sql("CREATE DATABASE promscale")
        cluster.sql("SELECT pg_create_physical_replication_slot('of_nobody', true)")  # keeps all of the log
        try:
            run_out_of_room(lab, cluster, disk, 200, use_up_segments)
        finally:
            cluster.close()


def use_up_segments(cluster):
    """Of the log, that are there already for later."""
    while cluster.sql("SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
                      " AND name > pg_walfile_name(pg_current_wal_insert_lsn())")[0][0] > 0:
        cluster.sql("SELECT pg_logical_emit_message(false, 'fault', 'next'), pg_switch_wal()")


def run_out_of_room(lab, cluster, disk, leave_kb, prepare=lambda cluster: None):
    p = lab.promscale(uri=cluster.uri(), args=ARGS)
    ledger = HttpLedger(p)
    for _ in range(5):
        ledger.write(50)
    ledger.send_again()  # a busy machine may not be in time
    assert 204 in ledger.statuses
    ledger.statuses.clear()
    ballast = Ballast(disk, leave_kb)
    prepare(cluster)
    end = time.monotonic() + 240
    while 503 not in ledger.statuses:
        ledger.write(800)
        assert time.monotonic() < end, f"the disk does not fill: {ledger.statuses}"
    for _ in range(3):
        ledger.write(800)
    assert ledger.statuses <= {204, 503, None}, ledger.statuses
    ballast.drop()
    if not cluster.process.running() or not answers(cluster):
        with contextlib.suppress(AssertionError):
            cluster.process.stop(3, timeout=20)
        cluster.start()
    cluster.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    ledger.statuses.clear()
    ledger.send_again()
    assert ledger.statuses <= {204, 503, None} and 204 in ledger.statuses
    for _ in range(3):
        ledger.write(50)
    wait_until("the views are made", lambda: p.sql("SELECT count(*) FROM prom_info.metric")[0][0] >= 2, 60)
    cluster.sql("CALL prom_api.execute_maintenance(force => true)", database="promscale")
    examine(p.sql, *ledger.keys())
    assert p.sql("SELECT name, last_error FROM _prom_catalog.job WHERE failures > 0") == []


def answers(cluster):
    """Not if it recovers for ever; a crash alone is over soon."""
    for _ in range(100):
        if not cluster.process.running():
            return False
        if cluster.run("pg_isready", "-h", cluster.folder, "-p", cluster.port, check=False).returncode == 0:
            return True
        time.sleep(0.1)
    return False
