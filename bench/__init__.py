"""The harness: plans, trains, keeps and compares runs.

import bench
board = bench.run(methods="all", tasks="digits", seeds=8)
"""

from typing import Any

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from bench import api

        return getattr(api, name)
    raise AttributeError(f"module 'bench' has no attribute '{name}'")
