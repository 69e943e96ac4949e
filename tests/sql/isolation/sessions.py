"""Sessions whose statements are steered one by one: who waits for whom is asked of the server, never guessed by time.

a.start(...) sends a statement without waiting for its end; a.blocked_by(b) returns when the server says that a
waits for a lock that b holds; a.result() is what the statement gave in the end.
"""
import threading
import time

import psycopg2

PATIENCE_S = 60


class Session:
    def __init__(self, db, user="postgres"):
        self.db = db
        self.conn = db.connect(user)
        self.pid = self.conn.info.backend_pid
        self.thread = self.outcome = self.error = None

    def sql(self, text, args=None):
        """To its end, here and now."""
        cur = self.conn.cursor()
        cur.execute(text, args)
        return cur.fetchall() if cur.description else None

    def one(self, text, args=None):
        (row,), = self.sql(text, args)
        return row

    def start(self, text, args=None):
        assert self.thread is None

        def run():
            try:
                self.outcome = self.sql(text, args)
            except psycopg2.Error as e:
                self.error = e

        self.outcome = self.error = None
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        return self

    def result(self):
        """Of the statement that was started; raises what it raised."""
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "the statement does not end"
        self.thread = None
        if self.error is not None:
            raise self.error
        return self.outcome

    def until(self, condition, what):
        """Polls the server; a statement that has ended will not come to wait any more."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if condition():
                return
            if self.thread is not None and not self.thread.is_alive():
                raise AssertionError(f"ended instead: {what}; {self.outcome} {self.error}")
            time.sleep(0.005)
        raise AssertionError(f"never: {what}")

    def blocked_by(self, other):
        self.until(lambda: other.pid in self.db.one("SELECT pg_blocking_pids(%s)", (self.pid,)),
                   f"{self.pid} waits for {other.pid}")
        return self

    def blocked(self):
        self.until(lambda: self.db.one("SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", (self.pid,)),
                   f"{self.pid} waits")
        return self

    def cancel(self):
        self.db.sql("SELECT pg_cancel_backend(%s)", (self.pid,))

    def close(self):
        if self.thread is not None:
            self.cancel()
            self.thread.join(PATIENCE_S)
        self.conn.close()
