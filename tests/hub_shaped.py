"""Writes folders in the layout of the hub's copies of NYUv2 and Cityscapes, and measures how one of full size is read.

`python tests/hub_shaped.py FOLDER` writes 795 + 654 rows of 288×384 there (6 GB), prepares them in a process of its own
with `FOLDER/cache` as the folder of prepared data, and prints rows a second, the peak of memory, and what one batch
takes. Nothing of it is NYUv2: the pixels are drawn at random.

`python tests/hub_shaped.py rooms FOLDER` writes rendered rooms there in NYUv2's layout, 64 training and 16 test images,
and `FOLDER/rooms.py` with the task set `Rooms`, which reads them: `--tasks "FOLDER/rooms.py:Rooms[path=FOLDER]"`.
"""

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

MOST = 4e9
"""Bytes of memory that preparing NYUv2 may take."""


def draw(rows, height, width, classes, seed=0):
    """Draw columns `[rows, …]`: blocks of four pixels, with invalid ones everywhere, as the hub's copy has them."""
    random = np.random.default_rng(seed)
    coarse = (rows, -(-height // 4), -(-width // 4))

    def fine(values):
        return values.repeat(4, -2).repeat(4, -1)[..., :height, :width]

    invalid = fine(random.random(coarse) < 0.1)
    normal = random.normal(size=(rows, 3, *coarse[1:]))
    normal = fine(normal / np.linalg.norm(normal, axis=1, keepdims=True)) * ~invalid[:, None]
    depth = (fine(random.uniform(0.7, 10, coarse)) + random.normal(0, 0.01, invalid.shape)) * ~invalid
    return {
        "image": random.integers(0, 256, (rows, 3, height, width)).astype(np.float32) / 255,
        "segmentation": np.where(invalid, -1, fine(random.integers(0, classes, coarse))),
        "depth": depth[:, None].astype(np.float32),
        "normal": normal.astype(np.float32),
        "noise": random.random((rows, 1, height, width), dtype=np.float32),
    }


def write(folder, split, columns, shard="00000-of-00001"):
    """Write columns `{name: [N, …]}` as one file of a split, in one row group, with the hub's features."""
    import datasets

    datasets.disable_progress_bars()
    kinds = {3: datasets.Array2D, 4: datasets.Array3D}
    features = {name: kinds[values.ndim](values.shape[1:], str(values.dtype)) for name, values in columns.items()}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    data = datasets.Dataset.from_dict(
        {name: list(values) for name, values in columns.items()}, features=datasets.Features(features)
    )
    rows = len(data)
    data.to_parquet(folder / "data" / f"{split}-{shard}.parquet", batch_size=rows)
    return folder


ROOMS = '''"""NYUv2's tasks, networks and protocols on rendered rooms, for trying them out without NYUv2."""

from dataclasses import replace

from tasks.nyuv2 import NYUv2


class Rooms(NYUv2):
    """Rendered rooms in NYUv2's layout, from a folder (path)."""

    hub, local = None, "what `python tests/hub_shaped.py rooms FOLDER` has written"
    source = replace(NYUv2.source, hub="rooms", local=local)
    card = replace(NYUv2.card, origin="Rendered by tasks/rendering/raycast.py from a seed; no photograph")
'''


def write_rooms(folder, train=64, test=16):
    """Write rendered rooms at 288×384 as NYUv2's copy has its photographs, and a task set that reads them."""
    from tasks.rendering import raycast

    folder.mkdir(parents=True, exist_ok=True)
    whole = raycast.render(train + test, height=288, width=384, seed=0)
    for split, chosen in (("train", slice(train)), ("val", slice(train, None))):
        write(folder, split, {name: values[chosen] for name, values in whole.items()})
    (folder / "rooms.py").write_text(ROOMS, "utf-8")


def write_full(folder):
    """Write what has NYUv2's size: 8 + 6 files. Those of one split and length are copies of each other."""
    for split, rows, files in (("train", 795, 8), ("val", 654, 6)):
        made = {}
        for number, part in enumerate(np.array_split(np.arange(rows), files)):
            shard = f"{number:05}-of-{files:05}"
            file = folder / "data" / f"{split}-{shard}.parquet"
            if len(part) in made:
                shutil.copy(made[len(part)], file)
            else:
                write(folder, split, draw(len(part), 288, 384, 13, seed=rows), shard)
                made[len(part)] = file


PREPARE = """
import resource, sys, time
import torch
from tasks.core.trial import try_out
from tasks.nyuv2 import NYUv2

def memory(name):
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) * 1024 / 1e9

def now():
    return time.perf_counter(), time.process_time()

def since(begun):
    return "{:.1f} s ({:.1f} s of the processor)".format(*(a - b for a, b in zip(now(), begun)))

made = NYUv2(sys.argv[1])
begun = now()
splits = made.splits
rows = sum(len(columns["depth"]) for columns in splits.values())
print(f"{rows:,} rows in {since(begun)}; peak memory {memory('VmHWM'):.2f} GB, now {memory('VmRSS'):.2f} GB")
assert memory("VmHWM") < float(sys.argv[2])
begun = now()
order = torch.randperm(len(splits["train"]["depth"]), generator=torch.Generator().manual_seed(0))
for chosen in order[:700].view(-1, 2):
    batch = {name: column[chosen] for name, column in splits["train"].items()}
print(f"350 training batches of two in {since(begun)}")
begun = now()
scores = [round(metric.constant_score, 3) for task in made.tasks for metric in task.metrics.values()]
print(f"tasks in {since(begun)}: {scores}")
begun = now()
try_out(made)
print(f"tried out in {since(begun)}")
print(f"peak memory {memory('VmHWM'):.2f} GB with the shared pages of files; own memory now {memory('RssAnon'):.2f} GB")
"""


def measure(folder):
    """Prepare a folder in a process of its own, and say what that took; a second process finds it prepared."""
    place = {"PYTHONPATH": str(Path(__file__).parent.parent), "MTL_BENCH_CACHE": str(folder / "cache")}
    for what in ("prepared", "found prepared"):
        print(f"{what}:", flush=True)
        subprocess.run(
            [sys.executable, "-c", PREPARE, folder, f"{MOST / 1e9}"], check=True, env={**os.environ, **place}
        )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    # Whoever has read the whole of a mapped file has its 2.4 GB among its pages, which the system may take back.
    print(f"the most that a process took, with the pages of the prepared file: {peak / 1e9:.2f} GB")


if __name__ == "__main__":
    if sys.argv[1] == "rooms":
        write_rooms(Path(sys.argv[2]))
        sys.exit()
    place = Path(sys.argv[1]).resolve()
    begun = time.perf_counter()
    if not (place / "data").is_dir():
        write_full(place)
        print(f"written in {time.perf_counter() - begun:.0f} s")
    measure(place)
