#!/usr/bin/python3
"""What a long past costs: the same living series, alone and beside a history of dead ones.

Two databases get the same active series (pods that run now, a hundred metrics and ten labels each, real
samples of the last ten minutes, half of them folded). One also gets the pods of ninety days that no longer
run: catalog and presence, put there by SQL, without samples. A connector of its own serves each, and requests
are sent to both in turn, so that the ratios hold on a busy machine; then SQL with a time. Prints medians and their ratios, what
a request costs the processor (connector and backends), the time to load the label index, and the connectors' memory.

Ten million historical series take some 3 GB of disk and many minutes (--history 10000000); --index-max-bytes
changes the connectors' budget.
"""
import argparse
import http.client
import json
import os
import statistics
import struct
import sys
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from harness.lab import Lab, Template  # noqa: E402
from harness.process import wait_until  # noqa: E402

METRICS = 100
WINDOW = 8 * 3600
DAYS = 90
WARM = 5
CRC_TABLE = []
for i in range(256):
    c = i
    for _ in range(8):
        c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    CRC_TABLE.append(c)


def crc32c(data):
    c = 0xFFFFFFFF
    for b in data:
        c = CRC_TABLE[(c ^ b) & 255] ^ c >> 8
    return c ^ 0xFFFFFFFF


def varint(v):
    out = bytearray()
    while v >= 128:
        out.append(v & 127 | 128)
        v >>= 7
    out.append(v)
    return bytes(out)


def id_set(first, step, n):
    """A set of ids as docs/read-path.md has it: first, first + step, ..."""
    body = struct.pack("<I", n) + varint((first - 1) << 1) + varint((step - 2) << 1) * (n - 1)
    return b"\1" + struct.pack("<I", crc32c(body)) + body


def labels_of(name, pod):
    return ("jsonb_build_object('__name__', {0}, 'pod', 'pod-' || {1}, 'instance', '10.0.' || {1} / 250 || '.' || {1} % 250,"
            " 'job', 'job-' || {1} % 20, 'namespace', 'ns-' || {1} % 30, 'node', 'node-' || {1} % 40, 'env', 'prod',"
            " 'cluster', 'c' || {1} % 3, 'service', 'svc-' || {1} % 25, 'container', 'app')").format(name, pod)


def make_active(run, pods):
    for m in range(METRICS):
        run(f"SELECT prom_api.create_metric('churn_{m:03}')")
    for at in range(0, pods, 50):
        run(f"SELECT count(_prom_catalog.get_or_create_series_id({labels_of('m', 'p')})) FROM generate_series({at}, "
            f"{min(at + 50, pods) - 1}) p, (SELECT 'churn_' || to_char(i, 'FM000') m FROM generate_series(0, {METRICS - 1}) i) x")
    for when in ("generate_series(now() - interval '10 min', now() - interval '2 min 1 s', '15 s')",
                 "generate_series(now() - interval '2 min', now(), '15 s')"):
        for m in range(METRICS):
            run(f"INSERT INTO prom_data.churn_{m:03} (time, value, series_id) SELECT t, extract(epoch FROM t)::int8 % 1000 + s.id,"
                f" s.id FROM {when} t, _prom_catalog.series s WHERE s.metric_id = (SELECT id FROM _prom_catalog.metric"
                f" WHERE metric_name = 'churn_{m:03}')")
        if "2 min 1 s" in when:
            while run("SELECT did FROM _prom_ext.merge_step()")[0][0]:
                pass
    run("SELECT _prom_catalog.make_metric_views(1000)")
    run("ANALYZE _prom_catalog.series")


def make_history(run, con, series):
    """Pods that ran for one window each, spread over ninety days."""
    pods = series // METRICS
    run("""CREATE TEMP TABLE template AS SELECT DISTINCT ON (s.metric_id) s.metric_id, s.labels,
        (SELECT p.pos FROM _prom_catalog.label_key_position p JOIN _prom_catalog.label_key k ON k.id = p.key_id
         WHERE p.metric_id = s.metric_id AND k.key = 'pod') pod_pos,
        (SELECT p.pos FROM _prom_catalog.label_key_position p JOIN _prom_catalog.label_key k ON k.id = p.key_id
         WHERE p.metric_id = s.metric_id AND k.key = 'instance') instance_pos,
        dense_rank() OVER (ORDER BY s.metric_id)::int - 1 AS place FROM _prom_catalog.series s ORDER BY s.metric_id""")
    first_label = run("SELECT max(id) + 1000 FROM _prom_catalog.label")[0][0]
    first = run("SELECT max(id) + 10000 FROM _prom_catalog.series")[0][0]
    run(f"""INSERT INTO _prom_catalog.label (id, tenant_id, key_id, value, digest)
        SELECT {first_label} + p * 2 + i, 0, k.id, v, _prom_ext.text_digest(v) FROM generate_series(0, {pods - 1}) p CROSS JOIN generate_series(0, 1) i
        CROSS JOIN LATERAL (SELECT CASE i WHEN 0 THEN 'gone-' || p ELSE '10.9.' || p END v) v
        JOIN _prom_catalog.label_key k ON k.key = (ARRAY['pod', 'instance'])[i + 1]""")
    run("ALTER TABLE _prom_catalog.series DROP CONSTRAINT series_pkey, DROP CONSTRAINT series_metric_id_tenant_id_digest_key")
    run("DROP INDEX _prom_catalog.series_labels_idx")
    step = max(1, 1000000 // METRICS)
    for at in range(0, pods, step):
        run(f"""INSERT INTO _prom_catalog.series (id, tenant_id, metric_id, labels, digest)
            SELECT {first} + p * {METRICS} + t.place, 0, t.metric_id, (SELECT array_agg(CASE n WHEN t.pod_pos THEN {first_label} + p * 2
              WHEN t.instance_pos THEN {first_label} + p * 2 + 1 ELSE l END ORDER BY n) FROM unnest(t.labels) WITH ORDINALITY u(l, n)),
              md5(({first} + p * {METRICS} + t.place)::text)::uuid
            FROM generate_series({at}, {min(at + step, pods) - 1}) p, template t""")
    run("SET maintenance_work_mem = '256MB'")
    run("ALTER TABLE _prom_catalog.series ADD PRIMARY KEY (id), ADD UNIQUE (metric_id, tenant_id, digest)")
    run("CREATE INDEX series_labels_idx ON _prom_catalog.series USING gin (labels)")
    run(f"SELECT setval('_prom_catalog.series_id_seq', {first + series}), setval('_prom_catalog.label_id_seq', {first_label + 2 * pods})")
    windows = DAYS * 3 - 6
    newest = int(time.time()) // WINDOW * WINDOW - 6 * WINDOW
    metric_ids = [r[0] for r in run("SELECT metric_id FROM template ORDER BY place")]
    with con.cursor() as cur:
        for w in range(windows):
            lo, hi = pods * w // windows, pods * (w + 1) // windows
            rows = [(m, newest - (windows - 1 - w) * WINDOW, hi - lo, id_set(first + lo * METRICS + place, METRICS, hi - lo))
                    for place, m in enumerate(metric_ids)] if hi > lo else []
            cur.executemany("INSERT INTO _prom_data.presence VALUES (0, %s, 0, to_timestamp(%s), 0, %s, %s)", rows)
    run("UPDATE _prom_data.presence SET dist_key = _prom_ext.dist_key(0, metric_id)")
    run("VACUUM ANALYZE _prom_catalog.series")
    run("VACUUM ANALYZE _prom_data.presence")
    run("VACUUM ANALYZE _prom_catalog.label")


def cpu_ns(pid):
    """Of all threads; 0 when it is gone. Ended threads are not in it: those that serve requests stay."""
    total = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


class Side:
    """A database with its connector."""

    def __init__(self, lab, cluster, name, args, history):
        started = time.monotonic()
        self.name = name
        cluster.sql(f"CREATE DATABASE {name}")
        self.con = cluster.connect(name)
        self.con.autocommit = True
        self.run("CREATE EXTENSION promscale")
        self.con.close()  # the next one has the search_path of the installation
        self.con = cluster.connect(name)
        self.con.autocommit = True
        self.run("SELECT _prom_catalog.set_setting('retention_period', '0')")
        make_active(self.run, args.active // METRICS)
        self.newest = time.time()  # the past takes minutes to make
        if history:
            make_history(self.run, self.con, history)
        self.run("CHECKPOINT")
        self.built = time.monotonic() - started
        started = time.monotonic()
        self.p = lab.promscale(uri=cluster.uri(name), args=["--self-scrape=false", "--startup.install-extensions=false",
                                                            f"--query.index-max-bytes={args.index_max_bytes}"])
        wait_until("the index is loaded", lambda: self.p.metrics().get("promscale_label_index_loads_total", 0) >= 1, 600)
        self.loaded = time.monotonic() - started
        host, port = self.p.url.removeprefix("http://").split(":")
        self.http = http.client.HTTPConnection(host, int(port), timeout=300)

    def run(self, query):
        with self.con.cursor() as cur:
            cur.execute(query)
            return cur.fetchall() if cur.description else None

    def ask(self, path):
        started = time.perf_counter()
        self.http.request("GET", "/api/v1/" + path)
        answer = self.http.getresponse()
        body = answer.read()
        took = time.perf_counter() - started
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body[:300]}")
        return took * 1000, body

    def ask_sql(self, query):
        started = time.perf_counter()
        rows = self.run(query)
        return (time.perf_counter() - started) * 1000, sorted(rows, key=str)

    def cpu_ms(self, own_session):
        """What the session, or the connector and its sessions, have spent."""
        own = self.con.get_backend_pid()
        pids = [own] if own_session else [self.p.process.child.pid] + [r[0] for r in self.run(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'")]
        return sum(cpu_ns(pid) for pid in pids) / 1e6

    def rss_mb(self):
        with open(f"/proc/{self.p.process.child.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024


def requests(now):
    def q(path, **params):
        return path + "?" + urllib.parse.urlencode([(k.replace("match", "match[]"), v) for k, v in params.items()])
    hour = {"start": f"{now - 3600:.0f}", "end": f"{now:.0f}"}
    day = {"start": f"{now - 86400:.0f}", "end": f"{now:.0f}"}
    return {
        "instant: a metric": q("query", query="churn_007", time=now),
        "instant: one series": q("query", query='churn_008{pod="pod-17"}', time=now),
        "instant: sum by (rate 5m)": q("query", query="sum by (namespace) (rate(churn_009[5m]))", time=now),
        "instant: regex": q("query", query='churn_011{service=~"svc-1.*", env!="dev"}', time=now),
        "instant: three metrics": q("query", query="churn_012 / churn_013 + churn_014", time=now),
        "instant: no name": q("query", query='{pod="pod-3"}', time=now),
        "labels, 1 h": q("labels", **hour),
        "values of pod, 1 h": q("label/pod/values", **hour),
        "values of __name__, 1 d": q("label/__name__/values", **day),
        "values of job of a metric, 1 h": q("label/job/values", match="churn_001", **hour),
        "series of a metric, 1 h": q("series", match="churn_002", **hour),
    }


def in_turn(alone, beside, rounds, ask, own_session):
    """Milliseconds of each go, CPU milliseconds of one, and the last answer, by side. Both are asked in each round, in
    turn the one and the other first: whatever else the machine does meets both."""
    took, last, spent = {alone: [], beside: []}, {}, {}
    for i in range(-WARM, rounds):
        if i == 0:
            spent = {side: -side.cpu_ms(own_session) for side in took}
        for side in (alone, beside) if i % 2 else (beside, alone):
            ms, last[side] = ask(side)
            if i >= 0:
                took[side].append(ms)
    return took, {side: (spent[side] + side.cpu_ms(own_session)) / rounds for side in took}, last


def show(name, n, took, cpu, sides):
    """A line; returns the ratios of the medians, of what a quarter took less than, which others on the machine disturb less,
    and of CPU."""
    a, b = (statistics.median(took[side]) for side in sides)
    qa, qb = (sorted(took[side])[len(took[side]) // 4] for side in sides)
    ca, cb = (cpu[side] for side in sides)
    ratios = b / a, qb / qa, cb / max(ca, 0.001)
    print(f"{name:32} {n:6}   p50 {a:7.2f} {b:7.2f} ms {ratios[0]:5.2f}   p25 {qa:7.2f} {qb:7.2f} ms {ratios[1]:5.2f}"
          f"   CPU {ca:7.2f} {cb:7.2f} ms {ratios[2]:5.2f}", flush=True)
    return ratios


def compare(alone, beside, rounds, now, only):
    """The answers must be the same. Returns the ratios."""
    ratios = {}
    for name, path in requests(now).items():
        if only not in name:
            continue
        took, cpu, bodies = in_turn(alone, beside, rounds, lambda side, path=path: side.ask(path), False)
        data = {side: json.loads(body)["data"] for side, body in bodies.items()}
        if "instant" not in name and bodies[alone] != bodies[beside]:
            raise SystemExit(f"{name}: the answers differ")
        n = {side: len(d.get("result", ()) if isinstance(d, dict) else d) for side, d in data.items()}
        if n[alone] != n[beside]:
            raise SystemExit(f"{name}: {n[alone]} and {n[beside]} results")
        if not n[alone]:
            raise SystemExit(f"{name}: no results")
        ratios[name] = show(name, n[alone], took, cpu, (alone, beside))
    return ratios


def queries(now):
    """The same kind of questions in SQL."""
    hour = f"to_timestamp({now:.0f}) - interval '1 h'"
    return {
        "SQL: a metric, 1 h": f"SELECT count(*), sum(value) FROM churn_021 WHERE time > {hour}",
        "SQL: by label, 1 h": f"SELECT val(job_id), avg(value) FROM churn_022 WHERE time > {hour} GROUP BY job_id",
        "SQL: one series, 1 h": f"SELECT time, value FROM churn_023 WHERE time > {hour} AND labels ? ('pod' == 'pod-17')",
        "SQL: regex, 1 h": f"SELECT count(*) FROM churn_024 WHERE time > {hour} AND labels ? ('service' ==~ '^svc-1')",
        "SQL: promql()": f"SELECT count(*), sum(value) FROM promql('churn_025', to_timestamp({now:.0f}))",
        "SQL: promql() of rates": "SELECT count(*) FROM promql('sum by (namespace) (rate(churn_026[5m]))',"
                                  f" to_timestamp({now:.0f}))",
        "SQL: promql(), one series": f"SELECT count(*) FROM promql('churn_027{{pod=\"pod-17\"}}', to_timestamp({now:.0f}))",
    }


def compare_in_sql(alone, beside, rounds, now, only):
    ratios = {}
    for name, query in queries(now).items():
        if only not in name:
            continue
        took, cpu, rows = in_turn(alone, beside, rounds, lambda side, query=query: side.ask_sql(query), True)
        if len(rows[alone]) != len(rows[beside]) or "count" in query and rows[alone][0][0] != rows[beside][0][0]:
            raise SystemExit(f"{name}: the answers differ: {rows[alone][:3]} {rows[beside][:3]}")
        ratios[name] = show(name, len(rows[alone]), took, cpu, (alone, beside))
    return ratios


def look_back(side, now):
    """What is told of long ago: first, when nothing of it is known, then again."""
    for days in (3, 30, 80):
        at = now - days * 86400
        path = "series?" + urllib.parse.urlencode({"match[]": "churn_003", "start": f"{at:.0f}", "end": f"{at:.0f}"})
        first, body = side.ask(path)
        again = side.ask(path)[0]
        print(f"series of a metric, {days} days ago   {len(json.loads(body)['data']):6} results  {first:8.2f} ms  then {again:8.2f} ms")
    at = now - 89 * 86400
    path = "series?" + urllib.parse.urlencode({"match[]": 'churn_003{pod="gone-200"}', "start": f"{at:.0f}", "end": f"{now:.0f}"})
    first, body = side.ask(path)
    print(f"one series of a metric, 89 days      {len(json.loads(body)['data']):6} results  {first:8.2f} ms  then {side.ask(path)[0]:8.2f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--active", type=int, default=50000)
    parser.add_argument("--history", type=int, default=200000)
    parser.add_argument("--index-max-bytes", default="1GB")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", default="", help="what the names of requests must contain")
    parser.add_argument("--worst", type=float, default=0, help="fail if a ratio of medians is larger")
    args = parser.parse_args()
    template = Template()
    lab = Lab(template)
    try:
        cluster = lab.cluster(conf="shared_buffers = 256MB\nmax_wal_size = 4GB\nfsync = off\nautovacuum = off\n")
        alone = Side(lab, cluster, "alone", args, 0)
        beside = Side(lab, cluster, "beside", args, args.history)
        size = beside.run("SELECT pg_size_pretty(pg_database_size('beside'))")[0][0]
        print(f"{args.active} active series; beside {args.history} dead ones: {size}, built in {beside.built:.0f} s")
        for side in (alone, beside):
            m = side.p.metrics()
            print(f"{side.name:7} index loaded in {side.loaded:.1f} s: {m['promscale_label_index_series']:.0f} series,"
                  f" {m['promscale_label_index_bytes'] / 1e6:.1f} MB, whole: {m['promscale_label_index_whole']:.0f}")
        now = min(side.newest for side in (alone, beside))
        ratios = compare(alone, beside, args.rounds, now, args.only)
        ratios.update(compare_in_sql(alone, beside, args.rounds, now, args.only))
        worst = max(r[0] for r in ratios.values())
        for what, i in (("medians", 0), ("quarters", 1), ("CPU", 2)):
            print(f"worst ratios of {what}: " + ", ".join(f"{r[i]:.2f} {name}" for name, r in
                                                          sorted(ratios.items(), key=lambda x, i=i: -x[1][i])[:4]))
        print("memory: " + ", ".join(f"{s.name} {s.rss_mb():.0f} MB" for s in (alone, beside)))
        look_back(beside, now)
        print(f"memory: {beside.rss_mb():.0f} MB; series read for requests:"
              f" {beside.p.metrics()['promscale_label_index_asked_total']:.0f}")
    finally:
        lab.close()
        template.close()
    if args.worst and worst > args.worst:
        raise SystemExit(f"a ratio is larger than {args.worst}")


if __name__ == "__main__":
    main()
