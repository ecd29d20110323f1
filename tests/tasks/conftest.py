"""Folders in the hub's layout, small, for the loaders of real data; and real ones where they are."""

import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import hub_shaped
import numpy as np
import pandas as pd
import pytest
import scipy.io

import tasks
from tasks.parkinsons import INPUTS

COMMIT = "a" * 40
CONFIG = """---
configs:
- config_name: digits
  data_files:
  - {split: train, path: digits/train-*}
  - {split: test, path: digits/test-*}
---
"""
CENSUS = """\
39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, United-States, <=50K
50, ?, 83311, HS-grad, 9, Married-civ-spouse, ?, Husband, White, Male, 0, 0, 13, ?, >50K
38, Private, 215646, 11th, 7, Divorced, Sales, Not-in-family, Black, Female, 0, 1902, 40, Cuba, <=50K
28, Private, 338409, Doctorate, 16, Widowed, Sales, Unmarried, Other, Female, 0, 0, 99, Cuba, >50K
"""  # noqa: E501


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Prepared data is kept with the test, and the hub is not asked."""
    monkeypatch.setenv("MTL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def pictures():
    """Make images `[count, 28, 28]` of bytes, no two alike, and the labels of the ten classes."""

    def make(count, seed=0):
        draw = np.random.default_rng(seed)
        images = draw.integers(1, 256, (count, 28, 28)) * (draw.random((count, 28, 28)) < 0.3)
        return images.astype(np.uint8), draw.permutation(np.arange(count) % 10)

    return make


@pytest.fixture(scope="session")
def write_images():
    """Write images to a folder in the hub's layout: `{split: (images, labels)}`; features may be others."""
    import datasets

    def write(folder, splits, names=("image", "label"), features=None):
        features = features or (datasets.Image(), datasets.ClassLabel(names=[f"no. {i}" for i in range(10)]))
        (folder / "digits").mkdir(parents=True, exist_ok=True)
        (folder / "README.md").write_text(CONFIG)
        for split, columns in splits.items():
            schema = datasets.Features(dict(zip(names, features, strict=True)))
            data = datasets.Dataset.from_dict(dict(zip(names, map(list, columns), strict=True)), features=schema)
            data.to_parquet(folder / "digits" / f"{split}-00000-of-00001.parquet")
        return folder

    return write


@pytest.fixture(scope="session")
def image_folder(write_images, pictures, tmp_path_factory):
    """200 training and 50 test images."""
    folder = tmp_path_factory.mktemp("hub") / "images"
    return write_images(folder, {"train": pictures(200, 1), "test": pictures(50, 2)})


@pytest.fixture(scope="session")
def census_folder(tmp_path_factory):
    """The two official files, of 80 and 20 people."""
    folder = tmp_path_factory.mktemp("hub") / "census"
    folder.mkdir()
    (folder / "adult-train.csv").write_text(CENSUS * 20)
    (folder / "adult-test.csv").write_text(CENSUS.replace("50K\n", "50K.\n") * 5)
    return folder


@pytest.fixture(scope="session")
def recordings():
    """Twenty subjects, half of them women, six recordings each. Age tells them apart."""
    draw = np.random.default_rng(5)
    subject = np.repeat(np.arange(1, 21), 6)
    columns = {name: draw.normal(3, 2, len(subject)) for name in INPUTS} | {"age": 50 + subject}
    scores = {"motor_UPDRS": draw.normal(21, 8, len(subject)), "total_UPDRS": draw.normal(29, 11, len(subject))}
    return pd.DataFrame({"subject#": subject, "sex": subject % 2, **scores, **columns})


@pytest.fixture(scope="session")
def parkinsons_folder(recordings, tmp_path_factory):
    """The recordings, in a file as at UCI."""
    folder = tmp_path_factory.mktemp("parkinsons")
    recordings.to_csv(folder / "parkinsons_updrs.data", index=False)
    return folder


@pytest.fixture(scope="session")
def sarcos_folder(tmp_path_factory):
    """The test file alone, of 100 rows."""
    folder = tmp_path_factory.mktemp("local") / "sarcos"
    folder.mkdir()
    rows = np.random.default_rng(0).normal(size=(100, 28))
    scipy.io.savemat(folder / "sarcos_inv_test.mat", {"sarcos_inv_test": rows})
    return folder


@pytest.fixture(scope="session")
def molecules():
    """125 different molecules as SMILES."""
    return [f"{one}c1ccc({other})cc1C{third}" for one, other, third in product(("C", "N", "O", "F", "Cl"), repeat=3)]


@pytest.fixture(scope="session")
def adme_folder(molecules, tmp_path_factory):
    """Six measurements of 125 molecules: fewer for the later columns."""
    from tasks.adme import FILE, TARGETS

    draw = np.random.default_rng(0)
    table = pd.DataFrame({"SMILES": molecules})
    for k, column in enumerate(TARGETS.values()):
        table[column] = np.where(draw.random(125) < 1 - k / 10, draw.normal(3, 2, 125), np.nan)
    folder = tmp_path_factory.mktemp("local") / "adme"
    folder.mkdir()
    table.to_csv(folder / FILE, index=False)
    return folder


@pytest.fixture(scope="session")
def tox21_folder(molecules, tmp_path_factory):
    """Twelve outcomes of 125 molecules, a third positive, a fifth missing."""
    from tasks.tox21 import FILE, TESTS

    draw = np.random.default_rng(0)
    table = pd.DataFrame({name: np.where(draw.random(125) < 0.8, draw.random(125) < 0.33, np.nan) for name in TESTS})
    folder = tmp_path_factory.mktemp("local") / "tox21"
    folder.mkdir()
    table.assign(mol_id="T", smiles=molecules).to_csv(folder / FILE, index=False)
    return folder


@pytest.fixture(scope="session")
def nyuv2_folder(tmp_path_factory):
    """12 training and 4 test images at full size, without a meaning."""
    folder = tmp_path_factory.mktemp("hub") / "nyuv2"
    for split, rows, seed in (("train", 12, 1), ("val", 4, 2)):
        hub_shaped.write(folder, split, hub_shaped.draw(rows, 288, 384, 13, seed))
    return folder


@pytest.fixture(scope="session")
def cityscapes_folder(tmp_path_factory):
    """12 training and 4 test images at full size, without a meaning."""
    folder = tmp_path_factory.mktemp("local") / "cityscapes"
    for split, rows, seed in (("train", 12, 1), ("val", 4, 2)):
        columns = hub_shaped.draw(rows, 128, 256, 7, seed)
        hub_shaped.write(folder, split, {name: columns[name] for name in ("image", "segmentation", "depth")})
    return folder


@pytest.fixture
def in_the_hubs_cache(tmp_path, monkeypatch):
    """Put a folder into a hub's cache as its client does: files are links to blobs, and `main` is a commit."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(folder, repository):
        home = tmp_path / "hub" / f"datasets--{repository.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text(COMMIT)
        (home / "blobs").mkdir()
        for number, file in enumerate(sorted(file for file in folder.rglob("*") if file.is_file())):
            link = home / "snapshots" / COMMIT / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, home / "blobs" / str(number))
            link.symlink_to(home / "blobs" / str(number))
        return home

    return put


@pytest.fixture(scope="session")
def real():
    """The folder of the real data, or a skip."""
    if not (folder := os.environ.get("MTL_BENCH_REAL_DATA")):
        pytest.skip("MTL_BENCH_REAL_DATA names no folder of real data")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """Call Python in a fresh process, in an empty folder; `first` is searched before the packages."""

    def call(*arguments, first="", **changed):
        path = os.pathsep.join(filter(None, [str(first), str(Path(tasks.__file__).parent.parent)]))
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path_factory.mktemp("cwd"),
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **changed},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return call
