"""Child processes whose output goes to files, and small questions to the system."""
import collections
import os
import random
import signal as signals
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MODE = os.environ.get("MODE", "release")
BUILD = ROOT / "build" if MODE in ("", "release") else ROOT / "build" / MODE
# Sanitizers and busy machines are slow; every time-out of the harness is multiplied by this. Nothing takes longer by it
# that goes well.
SLOW = float(os.environ.get("PROMSCALE_TEST_SLOW", "4" if BUILD.name == "build" else "8"))


def wait_until(what, condition, timeout=30.0, every=0.05):
    """Waits until condition() is true and returns its value; fails with `what` in the message."""
    deadline = time.monotonic() + timeout * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out after {timeout * SLOW:.0f} s: {what}")
        time.sleep(every)


_ours = collections.deque(maxlen=300)


def free_port():
    """A loopback port that nobody listens on right now, below those that the kernel gives to clients; and that no other
    test has been given that may not listen yet, or not again: a socket without a file stands for it while we live."""
    while True:
        port = random.randint(20000, 32000)
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0promscale-test-port-{port}")
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        if len(_ours) == _ours.maxlen:
            _ours.popleft().close()
        _ours.append(mark)
        return port


def alive(pid):
    """True while the process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def children(pid):
    """Pids of the direct children."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as f:
                    if int(f.read().rpartition(b")")[2].split()[1]) == pid:
                        found.append(int(entry))
            except OSError:
                continue
    return found


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def processes_in(folder):
    """Pids of all processes that name the folder on their command line or stand in it."""
    folder = str(folder)
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            here = os.readlink(f"/proc/{entry}/cwd")
        except OSError:
            here = ""
        if (folder in command_line(entry) or (here + "/").startswith(folder + "/")) and alive(entry):
            found.append(int(entry))
    return found


class Process:
    """A child in a session of its own; stdout and stderr go to files in `folder`."""

    def __init__(self, name, argv, folder, env=None, **popen):
        self.name = name
        self.out_path = Path(folder) / f"{name}.out"
        self.err_path = Path(folder) / f"{name}.err"
        out, err = open(self.out_path, "ab"), open(self.err_path, "ab")
        with out, err:
            self.child = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                          env=env, start_new_session=True, **popen)
        self.pid = self.child.pid

    @property
    def out(self):
        return self.out_path.read_text(errors="replace")

    @property
    def err(self):
        return self.err_path.read_text(errors="replace")

    def running(self):
        return self.child.poll() is None

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        """kill -9."""
        if self.running():
            self.child.kill()
        return self.child.wait()

    def wait(self, timeout=30):
        """The exit code; negative for a signal."""
        return self.child.wait(timeout * SLOW)

    def stop(self, number=signals.SIGTERM, timeout=60):
        if self.running():
            self.signal(number)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {timeout * SLOW:.0f} s of signal {number}") from None

    def close(self):
        self.kill()
