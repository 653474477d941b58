"""A Ray cluster of two nodes on this machine: prints its address; a line on stdin kills the second node, its end both."""

import sys

import psutil
from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}

cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
second = cluster.add_node(**NODE)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
if sys.stdin.readline():
    raylet = psutil.Process(second.all_processes["raylet"][0].process.pid)
    everything = [raylet, *raylet.children(recursive=True)]  # as a machine's death: its trainers die with it
    for process in everything:
        process.kill()
    print(sum("train" in process for process in map(str, everything)), flush=True)
    cluster.remove_node(second, allow_graceful=False)
    sys.stdin.readline()
cluster.shutdown()
