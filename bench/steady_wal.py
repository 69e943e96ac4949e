"""What the log of a run consists of: bytes by table, and how much of it is images of whole pages.

PostgreSQL writes a whole page to the log when the page is changed for the first time after a checkpoint, so what a
sample costs depends on how long pages lie before they are changed again. pg_waldump prints each record with its length
with and without images, and the file that it is about. Of the finished segments since the last look every nth is read,
while it is still there; what these say is taken for all of them.
"""
import collections
import re
import statistics
import subprocess

RECORD = re.compile(r"rmgr: (\S+) +len \(rec/tot\): +(\d+)/ *(\d+),")
FILE = re.compile(r"rel \d+/\d+/(\d+)")
SEGMENT = 16 << 20
# file -> the table of _prom_data that it belongs to: as itself, its TOAST table, or an index of either
OWNERS = """
SELECT pg_relation_filenode(f.oid)::text, CASE WHEN s.nspname <> '_prom_data' THEN 'catalog'
       ELSE regexp_replace(t.relname, '^block.*', 'block')
            || CASE WHEN h.relkind = 't' THEN ' toast' ELSE '' END
            || CASE WHEN f.relkind = 'i' THEN ' index' ELSE '' END END
FROM pg_class f
LEFT JOIN pg_index i ON i.indexrelid = f.oid
JOIN pg_class h ON h.oid = coalesce(i.indrelid, f.oid)
LEFT JOIN pg_class o ON h.relkind = 't' AND o.reltoastrelid = h.oid
JOIN pg_class t ON t.oid = coalesce(o.oid, h.oid)
JOIN pg_namespace s ON s.oid = t.relnamespace
WHERE pg_relation_filenode(f.oid) IS NOT NULL
"""


class Wal:
    def __init__(self, conn, server, every):
        self.conn, self.server, self.every = conn, server, every
        self.files, self.next, self.timeline = {}, None, "00000001"

    def owner(self, file):
        if file not in self.files:
            with self.conn.cursor() as cur:
                cur.execute(OWNERS)
                self.files.update(cur.fetchall())
        return self.files.setdefault(file, "catalog")  # of a relation that is gone

    def read(self, segment, to):
        per = 0x100000000 // SEGMENT
        name = f"{self.timeline}{segment // per:08X}{segment % per:08X}"
        with subprocess.Popen(["nice", str(self.server.bin / "pg_waldump"), str(self.server.data / "pg_wal" / name)],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace") as dump:
            for text in dump.stdout:
                record = RECORD.match(text)
                if record is None:
                    continue
                file = FILE.search(text)
                kind = self.owner(file.group(1)) if file else record.group(1)
                plain, whole = int(record.group(2)), int(record.group(3))
                to[kind][0] += plain
                to[kind][1] += whole - plain

    def look(self, lsn):
        """Kind -> bytes of records, bytes of images, of all that was written since the last look."""
        end = int(lsn) // SEGMENT
        begin, self.next = self.next, end
        found = collections.defaultdict(lambda: [0.0, 0.0])
        if begin is None or end <= begin:
            return {}
        segments = range(begin, end, self.every)
        for segment in segments:
            self.read(segment, found)
        seen = sum(sum(v) for v in found.values())
        factor = (end - begin) * SEGMENT / seen if seen else 0
        return {k: [v[0] * factor, v[1] * factor] for k, v in found.items()}


def part(row, kind, which):
    return row["wal"].get(kind, (0, 0))[which]


def tell(rows):
    """What the lines of a run say together, and what the minutes in which hours were joined have more than others."""
    known = [r for r in rows if r.get("wal")]
    if not known:
        return {}
    samples = sum(r["samples"] for r in known)
    joins = [r for r in known if r["joined"]]
    others = [r for r in known if not r["joined"]]
    apart = bool(joins and others)
    print("WAL by what it is about, B a sample: records, images of pages"
          + ("; of these, what minutes with a join have more" if apart else ""))
    out = {}
    for kind in {k for r in known for k in r["wal"]}:
        out[kind] = [sum(part(r, kind, i) for r in known) / samples for i in (0, 1)] + [0.0, 0.0]
        for i in (0, 1) if apart else ():
            usual = statistics.median(part(r, kind, i) / max(r["samples"], 1) for r in others)
            out[kind][2 + i] = sum(part(r, kind, i) - usual * r["samples"] for r in joins) / samples
    for kind, of in sorted(out.items(), key=lambda item: -sum(item[1][:2])):
        if of[0] + of[1] >= 0.005:
            show(kind, of, apart)
    show("all", [sum(of[i] for of in out.values()) for i in range(4)], apart)
    return out


def show(kind, of, apart):
    print(f"  {kind:22} {of[0]:6.2f} {of[1]:6.2f}" + (f"   {of[2]:6.2f} {of[3]:6.2f}" if apart else ""), flush=True)
