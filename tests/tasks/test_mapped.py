"""Large data is prepared once, row by row, goes on where it was interrupted, and is never read half."""

import json
import os
import shutil
import threading
from dataclasses import replace

import hub_shaped
import numpy as np
import pytest
import torch

from tasks.core import mapped as module
from tasks.core.errors import DataError
from tasks.core.hub import Copy, Source, Stream
from tasks.core.mapped import Column, mapped

HEIGHT, WIDTH = 4, 6
SOURCE = Source(
    f"somebody/rooms@{'a' * 40}",
    rows={"train": 40, "val": 9},
    columns={"segmentation": f"Array2D({HEIGHT}×{WIDTH}, int64)", "depth": f"Array3D(1×{HEIGHT}×{WIDTH}, float32)"},
)
COLUMNS = {
    "segmentation": Column("int8", (HEIGHT, WIDTH), -1, 12, "classes from 0 to 12, or -1 for none"),
    "depth": Column("float16", (1, HEIGHT, WIDTH), 0, 100, "depths from 0 to 100"),
}


def backwards(split, rows):
    return np.arange(rows)[:: -1 if split == "train" else 1]


@pytest.fixture(scope="module")
def rows():
    return {"train": hub_shaped.draw(40, HEIGHT, WIDTH, 13, 1), "val": hub_shaped.draw(9, HEIGHT, WIDTH, 13, 2)}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory, rows):
    """40 training rows in two files, and 9 others."""
    folder = tmp_path_factory.mktemp("hub") / "rooms"
    for number, part in enumerate((slice(0, 23), slice(23, 40))):
        columns = {name: values[part] for name, values in rows["train"].items()}
        hub_shaped.write(folder, "train", columns, f"0000{number}-of-00002")
    return hub_shaped.write(folder, "val", rows["val"])


def load(folder, source=SOURCE, columns=COLUMNS, places=backwards):
    return mapped(source, str(folder), columns, places)


def complaint(*given, **changed):
    with pytest.raises(DataError) as caught:
        load(*given, **changed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_is(found, rows):
    assert {split: sorted(columns) for split, columns in found.splits.items()} == dict.fromkeys(rows, sorted(COLUMNS))
    for split, columns in rows.items():
        order = backwards(split, len(columns["depth"]))
        stored = found.splits[split]
        assert (stored["segmentation"].dtype, stored["depth"].dtype) == (torch.int8, torch.float16)
        assert np.array_equal(stored["segmentation"].numpy(), columns["segmentation"][order])
        assert np.array_equal(stored["depth"].numpy(), columns["depth"][order].astype(np.float16))


@pytest.fixture
def read(monkeypatch):
    """The first row and the number of rows of every batch that is converted."""
    batches = []
    convert = module._converted

    def watched(copy, split, name, column, values, first):
        if name == "depth":
            batches.append((split, first, len(values)))
        return convert(copy, split, name, column, values, first)

    monkeypatch.setattr(module, "_converted", watched)
    return batches


def test_rows_are_stored_at_their_places_in_small_types(rooms, rows):
    assert_is(load(rooms), rows)


def test_rows_are_read_few_at_a_time_and_once(rooms, read):
    load(rooms)
    assert max(count for *_, count in read) == module.AT_ONCE
    assert sum(count for *_, count in read) == 49
    load(rooms)
    assert sum(count for *_, count in read) == 49


@pytest.mark.parametrize("after", [0, 8, 24, 40, 48])
def test_an_interruption_costs_what_was_not_kept_and_no_more(rooms, rows, cache, read, monkeypatch, after):
    monkeypatch.setattr(module, "KEPT", 8)
    streams, given = Copy.streams, []

    def interrupted(copy):
        def batches(stream, start, size):
            for batch in stream.batches(start, size):
                if sum(given) >= after:
                    raise KeyboardInterrupt
                given.append(len(batch["depth"]))
                yield batch

        opened = streams(copy)
        return {s: Stream(o.rows, lambda *at, own=o: batches(own, *at)) for s, o in opened.items()}

    monkeypatch.setattr(Copy, "streams", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(rooms)
    assert not list(cache.glob("*.columns"))
    assert len(list(cache.glob("*.unfinished"))) == 1
    before = len(read)
    monkeypatch.setattr(Copy, "streams", streams)
    assert_is(load(rooms), rows)
    assert sum(count for *_, count in read[before:]) == 49 - sum(given)
    assert not list(cache.glob("*.unfinished"))


def test_the_result_is_the_same_whether_interrupted_or_not(rooms, tmp_path, monkeypatch):
    whole = load(rooms).digests
    monkeypatch.setenv("MTL_BENCH_CACHE", str(tmp_path / "other"))
    keep = module._keep

    def stop(work, identity, done):
        keep(work, identity, done)
        if done["train"] == 40 and not done["val"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "_keep", stop)
    with pytest.raises(KeyboardInterrupt):
        load(rooms)
    monkeypatch.setattr(module, "_keep", keep)
    assert load(rooms).digests == whole


def test_what_is_left_of_other_data_is_begun_anew(rooms, rows, cache, monkeypatch):
    load(rooms)
    [home] = cache.glob("*.columns")
    work = home.with_suffix(".unfinished")
    home.rename(work)
    (work / "progress.json").write_text(json.dumps({"identity": "other", "done": {"train": 40, "val": 9}}))
    for file in work.glob("*.npy"):
        file.write_bytes(b"")
    assert_is(load(rooms), rows)


def test_several_processes_prepare_it_once(rooms, rows, read):
    found = []
    threads = [threading.Thread(target=lambda: found.append(load(rooms))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert sum(count for *_, count in read) == 49
    for one in found:
        assert_is(one, rows)


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\x7f"),
        lambda file: (file.parent / "manifest.json").write_text("{}"),
        lambda file: (file.parent / "manifest.json").write_text("not json"),
    ],
    ids=["a file gone", "a file cut", "a byte changed", "no manifest", "a broken manifest"],
)
def test_what_is_damaged_is_made_again(rooms, rows, cache, read, harm):
    load(rooms)
    [file] = cache.glob("*.columns/val.depth.npy")
    harm(file)
    assert_is(load(rooms), rows)
    assert sum(count for *_, count in read) == 98


def test_a_file_that_was_only_copied_or_touched_is_taken(rooms, rows, cache, read):
    load(rooms)
    for file in cache.glob("*.columns/*.npy"):
        os.utime(file, (1, 1))
    assert_is(load(rooms), rows)
    assert sum(count for *_, count in read) == 49


def test_writing_to_a_column_changes_no_file(rooms, rows):
    load(rooms).splits["train"]["depth"].zero_()
    assert_is(load(rooms), rows)


def test_data_is_known_wherever_it_lies_and_told_by_its_content(rooms, rows, tmp_path, read):
    load(rooms)
    shutil.copytree(rooms, tmp_path / "copy")
    assert_is(load(tmp_path / "copy"), rows)
    assert sum(count for *_, count in read) == 49
    changed = {name: values[::-1].copy() for name, values in rows["val"].items()}
    hub_shaped.write(tmp_path / "copy", "val", changed)
    assert_is(load(tmp_path / "copy"), {**rows, "val": changed})


def test_other_places_or_types_are_other_arrays(rooms, rows):
    load(rooms)
    plain = load(rooms, places=lambda split, rows: np.arange(rows)).splits["train"]
    assert np.array_equal(plain["segmentation"].numpy(), rows["train"]["segmentation"])
    wide = load(rooms, columns={**COLUMNS, "depth": replace(COLUMNS["depth"], dtype="float32")})
    assert wide.splits["train"]["depth"].dtype == torch.float32


def test_the_digests_are_of_content_and_of_every_column(rooms, tmp_path, monkeypatch):
    one = load(rooms).digests
    assert sorted(one) == ["train.depth", "train.segmentation", "val.depth", "val.segmentation"]
    monkeypatch.setenv("MTL_BENCH_CACHE", str(tmp_path / "other"))
    assert load(rooms).digests == one
    assert load(rooms, places=lambda split, rows: np.arange(rows)).digests["train.depth"] != one["train.depth"]


@pytest.mark.parametrize("value", [255, -2, 13])
def test_a_class_that_cannot_be_is_said_with_its_rows(rows, tmp_path, cache, value):
    columns = {name: values.copy() for name, values in rows["train"].items()}
    columns["segmentation"][21, 2, 3] = value
    hub_shaped.write(tmp_path / "odd", "train", columns)
    hub_shaped.write(tmp_path / "odd", "val", rows["val"])
    low, high = columns["segmentation"][16:24].min(), columns["segmentation"][16:24].max()
    said = f"the train split's segmentation has values from {low} to {high} in rows 16 to 23, and should have classes"
    assert said in complaint(tmp_path / "odd")
    assert not list(cache.glob("*.columns"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_a_number_that_cannot_be_is_said(rows, tmp_path, value):
    columns = {name: values.copy() for name, values in rows["val"].items()}
    columns["depth"][8, 0, 0, 0] = value
    hub_shaped.write(tmp_path / "odd", "train", rows["train"])
    hub_shaped.write(tmp_path / "odd", "val", columns)
    said = complaint(tmp_path / "odd")
    assert "the val split's depth has values from" in said
    assert said.endswith("in rows 8 to 8, and should have depths from 0 to 100")


def test_a_schema_that_differs_is_said_before_anything_is_written(rooms, rows, tmp_path, cache):
    other = {"image": rows["train"]["image"], "segmentation_19": rows["train"]["segmentation"]}
    hub_shaped.write(tmp_path / "other", "train", other)
    hub_shaped.write(tmp_path / "other", "val", other)
    said = complaint(tmp_path / "other")
    assert said.endswith("the train split lacks the column segmentation: it has image, segmentation_19")
    wider = replace(SOURCE, columns={**SOURCE.columns, "depth": "Array3D(1×8×6, float32)"})
    expected = "the train split's depth is Array3D(1×4×6, float32), and should be Array3D(1×8×6, float32)"
    assert complaint(rooms, source=wider).endswith(expected)
    more = replace(SOURCE, rows={"train": 30, "val": 9})
    assert complaint(rooms, source=more).endswith("the train split has 40 rows, and should have 30")
    named = replace(SOURCE, rows={"train": 40, "validation": 9})
    assert complaint(rooms, source=named).endswith("there is no validation split: it has train, val")
    assert not [file for file in cache.iterdir() if file.suffix in (".columns", ".unfinished")]


def test_a_torn_file_is_one_line(rooms, tmp_path):
    folder = shutil.copytree(rooms, tmp_path / "torn")
    file = next(folder.glob("data/val-*"))
    file.write_bytes(file.read_bytes()[:1000])
    assert complaint(folder).startswith(f"somebody/rooms in {folder}: ")


def test_a_folder_that_is_not_there_and_a_hub_that_is_out_of_reach_are_said(tmp_path):
    assert complaint(tmp_path / "none") == f"somebody/rooms in {tmp_path / 'none'}: there is no such folder"
    tmp_path.joinpath("empty").mkdir()
    assert complaint(tmp_path / "empty").endswith("the folder has no *.parquet")
    assert "HF_HUB_OFFLINE is set" in complaint("")


def test_data_in_the_hubs_cache_needs_no_folder(rooms, rows, in_the_hubs_cache):
    in_the_hubs_cache(rooms, "somebody/rooms")
    assert_is(load(""), rows)


def test_a_disk_without_room_is_said_before_it_is_full(rooms, monkeypatch, cache):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10_000, 9_000, 1_000))
    said = complaint(rooms)
    assert said.startswith(f"somebody/rooms cannot be stored in {cache}: it takes 3.5e-06 GB, and 1e-06 GB are free")
    assert said.endswith("set MTL_BENCH_CACHE to a folder that can be written")


def test_a_place_that_cannot_be_written_is_said(rooms, cache):
    cache.write_text("a file")
    assert "somebody/rooms cannot be stored in" in complaint(rooms)


def test_what_was_abandoned_goes_and_what_is_under_way_stays(rooms, cache):
    for name, age in (("old", module.ABANDONED + 60), ("new", 60)):
        work = cache / f"{name}.unfinished"
        work.mkdir(parents=True)
        (work / "progress.json").write_text("{}")
        for file in (work / "progress.json", work):
            os.utime(file, (file.stat().st_mtime - age,) * 2)
    load(rooms)
    assert [work.name for work in cache.glob("*.unfinished")] == ["new.unfinished"]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown(monkeypatch, capsys, terminal):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: terminal)
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    show = module._Show("somebody/rooms", 1_449, 700)
    for _ in range(8):
        show(10)
    show.end()
    out, err = capsys.readouterr()
    assert out == ""
    first = "710" if terminal else "760"
    seconds = "370" if terminal else "344"
    assert f"preparing somebody/rooms: {first} of 1,449 rows, 2 a second, {seconds} s left" in err
    assert err.count("preparing") == (8 if terminal else 1)


def test_what_is_done_at_once_says_nothing(rooms, capsys):
    load(rooms)
    assert capsys.readouterr() == ("", "")
