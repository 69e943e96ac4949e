"""What operators see of maintenance and storage: /metrics, the page, the views; and that trouble is loud."""
from harness.process import wait_until

BROKEN = ("CREATE OR REPLACE FUNCTION _prom_catalog.step_seal(p_force bool, OUT outcome text, OUT detail text,"
          " OUT next_in interval, OUT left_over int8) LANGUAGE plpgsql AS"
          " $$ BEGIN RAISE EXCEPTION 'no seal \"today\"'; END $$")


def test_storage_and_a_failing_step(lab):
    cluster = lab.cluster(conf="shared_preload_libraries = 'promscale'\npromscale.maintenance = off\n")
    cluster.sql("CREATE DATABASE promscale")
    p = lab.promscale(uri=cluster.uri("promscale"))
    p.write([({"__name__": "m", "i": str(i)}, [(1_767_225_600_000 + 1000 * k, float(k)) for k in range(50)])
             for i in range(4)])
    assert p.stop() == 0
    cluster.sql(BROKEN, database="promscale")
    cluster.sql("CALL prom_api.execute_maintenance()", database="promscale")
    p.start()  # asks the database before it is ready
    seen = p.metrics()
    assert seen['promscale_maintenance_failures{step="seal"}'] == 1
    assert seen['promscale_maintenance_failures_total{step="seal"}'] == 1
    assert seen['promscale_maintenance_failures{step="fold"}'] == 0
    assert seen['promscale_maintenance_late{step="fold"}'] == 0
    stored = {r[0]: r[1:] for r in cluster.sql("SELECT level, blocks, samples, bytes FROM prom_info.storage",
                                               database="promscale")}
    # its own metrics come in all the time: what is merged stays
    for i, family in enumerate(("blocks", "samples", "bytes")):
        assert seen[f'promscale_storage_{family}{{level="merged"}}'] == stored["merged"][i]
    assert stored["merged"][1] >= 200 and seen['promscale_storage_samples{level="sealed"}'] == 0
    assert seen['promscale_storage_metric_bytes{metric="m",tenant=""}'] > 0
    page = p.get("/").body.decode()
    assert "failing: seal" in page and "no seal" not in page
    wait_until("a word in the log", lambda: "maintenance of the database is in trouble" in p.err, 10)
    assert p.stop() == 0
