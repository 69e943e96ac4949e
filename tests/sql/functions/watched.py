"""A session under observation: what a statement may not do, whatever it is.

Allowed are a result or an error. Not allowed: an internal error (SQLSTATE XX...), a lost connection, a statement
that goes on after its timeout, a backend that grows without bound, a session that answers wrongly afterwards.
"""
import os
import re
import time

import psycopg2
import psycopg2.extensions

TIMEOUT_S = 60  # of a machine that does other things, too
WORK_S = 18  # of a processor
MEMORY_KB = 900 * 1024
BLOCKS_ARE_DAMAGED = ("XX001", "XX002")


class Watched:
    def __init__(self, db):
        self.db = db
        self.failures = {}
        self.outcomes = {}
        self.slowest = (0, "")
        self.conn = None
        self.started = db.one("SELECT pg_postmaster_start_time()")
        self.connect()

    def connect(self):
        if self.conn is not None:
            self.conn.close()
        self.conn = self.db.connect()
        self.pid = self.conn.get_backend_pid()
        # what the server says stays text: Python's times, JSON and numbers do not take everything
        as_text = psycopg2.extensions.new_type((114, 3802, 1082, 1083, 1114, 1184, 1186, 1266, 1700), "text",
                                               lambda value, _: value)
        psycopg2.extensions.register_type(as_text, self.conn)
        self.conn.cursor().execute(f"SET statement_timeout = '{TIMEOUT_S}s'; SET client_min_messages = error;"
                                   "SET bytea_output = hex; SET row_security = on")

    def close(self):
        self.conn.close()

    def fail(self, about, what, statement):
        self.failures.setdefault((about, what), statement if len(statement) < 3000 else
                                 statement[:1500] + " ... " + statement[-1500:])

    def peak_kb(self):
        """The most memory that the backend has had since the last time it was asked."""
        try:
            with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
                peak = int(re.search(r"VmHWM:\s*(\d+)", f.read()).group(1))
            if peak > MEMORY_KB // 3:
                with open(f"/proc/{self.pid}/clear_refs", "w", encoding="ascii") as f:
                    f.write("5")
            return peak
        except (OSError, AttributeError):
            return 0  # another user's process, or it is gone: the connection will tell

    def worked(self):
        """Seconds that the backend has had of a processor."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
                fields = f.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return 0.0

    def run(self, about, statement, allowed=(), begin="BEGIN", fetch=True):
        """Runs it, in a transaction that is rolled back (begin=None: just so); returns rows or SQLSTATE."""
        cur = self.conn.cursor()
        t, worked = time.monotonic(), self.worked()
        try:
            if begin:
                cur.execute(begin)
            cur.execute(statement)
            outcome = cur.fetchall() if cur.description and fetch else []
            code = "ok"
        except psycopg2.Error as e:
            outcome = code = e.pgcode or "lost"
            if isinstance(e, psycopg2.DataError) and e.pgcode is None and not self.conn.closed:
                outcome, code = [], "ok"  # the driver cannot make a Python value of it
            elif self.conn.closed or code in ("lost", "57P01", "57P02"):
                self.fail(about, f"connection lost: {str(e).strip()}", statement)
            elif code.startswith("XX") and code not in allowed:
                self.fail(about, f"{code} {str(e).strip()[:200]}", statement)
        except (ValueError, OverflowError):  # neither can it here
            outcome, code = [], "ok"
        took = time.monotonic() - t
        if took > self.slowest[0]:
            self.slowest = (took, f"{about}: {statement[:300]}")
        worked = self.worked() - worked
        if took > TIMEOUT_S * 1.5 or worked > WORK_S:
            self.fail(about, f"took {took:.0f} s, {worked:.0f} s of them work ({code})", statement)
        self.outcomes[(about, code)] = self.outcomes.get((about, code), 0) + 1
        peak = self.peak_kb()
        if peak > MEMORY_KB:
            self.fail(about, f"{peak // 1024} MB of memory", statement)
        if self.conn.closed:
            self.wait_until_up()
            self.connect()
        elif begin:
            cur.execute("ROLLBACK")
        return outcome

    def wait_until_up(self):
        for _ in range(600):
            try:
                self.db.conn.close()
                self.db.conn = self.db.connect()
                return
            except psycopg2.OperationalError:
                time.sleep(0.1)
        raise AssertionError("the server does not come back")

    def report(self):
        lines = []
        for (about, what), statement in self.failures.items():
            lines.append(f"{about}: {what}\n    {statement}")
        return f"{len(lines)} kinds of failure\n" + "\n".join(lines)
