"""A process of its own, since it has its own Ray: what a local run starts, until its input ends.

Writes one line of JSON: the address, the token, what an actor sees of the environment, and the folder of Ray's files.
"""

import json
import os
import sys

import ray

from mm_ray.runtime.cluster import connect


@ray.remote
def token_mode():
    return os.environ.get("RAY_AUTH_MODE")


connect("")
mode = ray.get(token_mode.remote())
address = ray.get_runtime_context().gcs_address
found = {"address": address, "token": os.environ["RAY_AUTH_TOKEN"], "mode": mode}
print(json.dumps(found | {"folder": ray.get_runtime_context().get_temp_dir()}), flush=True)
sys.stdin.read()
