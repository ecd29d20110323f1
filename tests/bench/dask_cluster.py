"""A cluster of dask on this machine, in a process that a test can kill: `dask_cluster.py PORT WORKERS`.

The process is the scheduler, and its children are the workers. It ends when its input does.
"""

import sys

from distributed import LocalCluster

if __name__ == "__main__":
    port, workers = map(int, sys.argv[1:])
    where = {"scheduler_port": port, "dashboard_address": None}
    with LocalCluster(n_workers=workers, threads_per_worker=1, **where) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
