"""What end-to-end tests are made of: real processes, on loopback, in a folder of their own.

lab.py           one test's folder and everything started in it; ends all of it
process.py       a child process with its output in a file; ports; who still lives
connector.py     build/promscale: start, kill, HTTP, SQL
postgres.py      a PostgreSQL cluster that is not promscale's
peers.py         real Prometheus and node_exporter
compare.py       what Prometheus has against what SQL says
remote_write.py  remote write 1.0 messages, made by hand
"""
from .lab import Lab, Template
from .process import free_port, wait_until
from .remote_write import encode, snappy, write_request

__all__ = ["Lab", "Template", "encode", "free_port", "snappy", "wait_until", "write_request"]
