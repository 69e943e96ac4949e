"""CPU seconds of all processes of a run, by kind and by step of maintenance, out of /proc."""
import os
import threading
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def processes():
    """pid -> (ppid, command line, cpu seconds of the process, cpu seconds of its dead children)"""
    out = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            rest = Path("/proc", pid, "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            cmd = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        out[int(pid)] = (int(rest[1]), cmd, (int(rest[11]) + int(rest[12])) / TICKS,
                         (int(rest[13]) + int(rest[14])) / TICKS)
    return out


class Cpu:
    """CPU seconds by kind of process. Rounds of maintenance are processes that come and go, so are runs of autovacuum: what
    the postmaster's dead children used is shared out by what was seen of them while they lived (four times a second)."""

    def __init__(self, connector, postmaster, mine):
        self.connector, self.postmaster, self.mine = connector, postmaster, mine
        self.seen = {}  # pid -> (kind, cpu)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def kind(self, pid, cmd):
        if pid in self.mine:
            return None
        for word, name in (("promscale maintenance of", "worker"), ("promscale maintenance", "worker"),
                           ("autovacuum", "autovacuum"), ("checkpointer", "checkpointer"), ("walwriter", "walwriter"),
                           ("background writer", "checkpointer")):
            if word in cmd:
                return name
        return "backends" if "promscale" in cmd else "other"

    def look(self):
        procs = processes()
        for pid, (ppid, cmd, own, _dead) in procs.items():
            if ppid == self.postmaster:
                kind = self.kind(pid, cmd)
                self.seen[pid] = (self.seen.get(pid, (kind, 0))[0] if kind == "other" else kind, own)
        return procs

    def watch(self):
        while not self.stop.wait(0.25):
            self.look()

    def now(self):
        procs = self.look()
        out = {"connector": procs[self.connector][2], "worker": 0.0, "backends": 0.0, "checkpointer": 0.0,
               "walwriter": 0.0, "autovacuum": 0.0, "other": 0.0}
        dead_seen = 0.0
        for pid, (kind, cpu) in list(self.seen.items()):
            if kind is not None:
                out[kind] += cpu
            if pid not in procs:
                dead_seen += cpu
        # the last quarter of a second of processes that are gone: rounds, nearly always
        out["worker"] += max(0.0, procs[self.postmaster][3] - self.dead_before - dead_seen)
        return out

    dead_before = 0.0

    def begin(self):
        procs = self.look()
        gone = sum(cpu for pid, (_kind, cpu) in self.seen.items() if pid not in procs)
        self.dead_before = procs[self.postmaster][3] - gone


class Steps:
    """CPU seconds of maintenance by step, whoever runs it."""

    QUERY = ("SELECT pid, application_name FROM pg_stat_activity WHERE application_name LIKE 'promscale maintenance%'"
             " AND application_name <> 'promscale maintenance launcher'")

    def __init__(self, conn):
        self.conn, self.used, self.before = conn, {}, {}
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        with self.conn.cursor() as cur:
            while not self.stop.wait(0.05):
                cur.execute(self.QUERY)
                for pid, name in cur.fetchall():
                    self.add(pid, name.partition(": ")[2] or "round")

    def add(self, pid, step):
        try:
            text = Path("/proc", str(pid), "stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return
        rest = text.rpartition(")")[2].split()
        cpu = (int(rest[11]) + int(rest[12])) / TICKS
        self.used[step] = self.used.get(step, 0.0) + max(0.0, cpu - self.before.get(pid, 0.0))
        self.before[pid] = cpu
