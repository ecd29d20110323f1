"""Records on disk: whole or not at all, and only what they say they are."""

import errno
import hashlib
import json
import os
import re
import stat
from pathlib import Path

import pytest
import torch

from bench.records import SCHEMA
from bench.store import Store, StoreError, write
from tasks.core.files import temporary


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "out")


@pytest.fixture
def record(made):
    return made(scores={("left", "accuracy", True): 0.5})


@pytest.fixture
def file(store, record):
    """A stored record's file."""
    store.put(record, None)
    return store.folder / "runs" / f"{record.name}.json"


@pytest.fixture
def weights():
    return {"trunk.weight": torch.randn(3, 2), "norm.num_batches_tracked": torch.tensor(7)}


def test_what_is_put_is_got(store, record):
    assert store.put(record, None) == record
    assert store.get(record.name) == record
    assert store.records() == {record.name: record}


def test_a_record_that_another_machine_replaces_while_it_is_read_is_read_again(store, record, file, monkeypatch):
    """A network folder says ESTALE of a file that is gone; the new one has its name."""
    read, failures = Path.read_bytes, [OSError(errno.ESTALE, "Stale file handle")]

    def stale(path):
        if path == file and failures:
            raise failures.pop()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", stale)
    assert store.get(record.name) == record
    assert not failures and file.exists()


def test_a_folder_that_is_not_there_yet_has_no_records(store):
    assert store.records() == {}
    assert store.get("nothing") is None
    assert not store.folder.exists()


def test_records_come_in_the_order_of_their_names(store, made):
    for seed in range(8):
        store.put(made(seed=seed), None)
    names = list(store.records())
    assert names == sorted(names)
    assert len(names) == 8


def test_a_second_record_of_a_name_replaces_the_first(store, made):
    store.put(made(status="crashed"), None)
    better = made(scores={("left", "accuracy", True): 0.7})
    store.put(better, None)
    assert store.records() == {better.name: better}


class Killed(BaseException):
    """As good as a power cut."""


@pytest.fixture(
    params=[(os, "fsync"), (Path, "replace")],
    ids=["before it is flushed", "before it is renamed"],
)
def crash(request, monkeypatch):
    """Make a write stop between the temporary file and the rename."""

    def stop(kind):
        def fail(*_):
            raise kind

        monkeypatch.setattr(*request.param, fail)

    return stop


@pytest.mark.parametrize(
    "kind",
    [Killed(), KeyboardInterrupt(), OSError(28, "No space left on device")],
    ids=repr,
)
def test_a_write_that_is_cut_short_leaves_the_old_file_and_no_other(tmp_path, crash, kind):
    file = tmp_path / "a.json"
    write(file, b"old")
    crash(kind)
    with pytest.raises((Killed, KeyboardInterrupt, StoreError)):
        write(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, crash):
    crash(OSError(28, "No space left on device"))
    with pytest.raises(StoreError, match=r"a\.json cannot be written: No space left on device"):
        write(tmp_path / "a.json", b"new")


def test_a_read_only_folder_is_one_line_that_names_the_file(tmp_path, monkeypatch):
    """Tests may run as root, whom no mode stops."""

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreError, match=r"a\.json cannot be written: Permission denied"):
        write(tmp_path / "a.json", b"new")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match="cannot be written: Permission denied"):
        write(tmp_path / "deeper" / "a.json", b"new")


def test_the_data_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("fsync") or fsync(handle))
    monkeypatch.setattr(Path, "replace", lambda *given: calls.append("replace") or replace(*given))
    write(tmp_path / "a.json", b"new")
    assert calls == ["fsync", "replace"]


def test_others_may_read_what_is_written(tmp_path):
    os.umask(old := os.umask(0o022))
    write(tmp_path / "a.json", b"new")
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o666 & ~old


@pytest.fixture
def refused(store, file, made, caplog):
    """Check that a file is set aside, untouched and named with its reason, and that the others are read."""

    def check(reason):
        store.put(other := made("mgda", scores={("left", "accuracy", True): 0.5}), None)
        [broken] = [f for f in file.parent.glob("*.json") if f.stem != other.name]
        content = broken.read_bytes()
        assert list(store.records()) == [other.name]
        assert not broken.exists()
        aside = store.folder / "set-aside" / broken.name
        assert aside.read_bytes() == content
        [line] = caplog.messages
        assert re.search(reason, line)
        assert str(broken) in line
        assert str(aside) in line
        assert "\n" not in line
        assert store.records().keys() == {other.name}  # said once
        assert len(caplog.messages) == 1

    return check


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"{}", b"[]", b"null", b'{"name": "x"}', b"\xff\xfe", b"not json", b"7", b'{"schema_version": 1}'],
)
def test_what_is_not_a_record_is_set_aside(refused, file, content):
    file.write_bytes(content)
    refused("is not a run's record")


def test_a_truncated_record_is_set_aside(refused, file):
    file.write_bytes(file.read_bytes()[:-10])
    refused("is not a run's record")


def test_where_nothing_can_be_moved_it_is_left_out(store, file, monkeypatch, caplog):
    file.write_bytes(b"{")

    def fail(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "replace", fail)
    assert store.records() == {}
    assert file.read_bytes() == b"{"
    assert "is not a run's record" in caplog.text


def edit(file, *path, value):
    document = json.loads(file.read_text())
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    file.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("path", "value"),
    [(("spec", "seed"), 7), (("parts", "data"), "other"), (("key",), "0" * 20), (("name",), "0" * 20)],
    ids=["seed", "data", "key", "name"],
)
def test_a_record_whose_name_or_key_is_not_of_its_content_is_set_aside(refused, file, path, value):
    edit(file, *path, value=value)
    refused("is another run's record, or was edited")


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("result", "status"), "fine", "result.status"),
        (("result", "scores", "left", "accuracy", "value"), "high", "result.scores.left.accuracy.value"),
        (("spec", "colour"), "red", "spec.colour"),
        (("schema_version",), 0, "schema_version"),
        (("schema_version",), "2", "schema_version"),
    ],
)
def test_an_invalid_field_is_named(refused, file, path, value, where):
    edit(file, *path, value=value)
    refused(rf"not a run's record \({where}")


def test_a_record_under_a_wrong_name_is_set_aside(refused, file):
    file.rename(file.with_stem("0" * 20))
    refused(r"0{20}\.json is another run's record")


def test_a_record_of_a_newer_schema_is_refused_and_stays(store, file):
    """It may hold what this version would lose."""
    edit(file, "schema_version", value=SCHEMA + 1)
    with pytest.raises(StoreError, match=rf"{file.name} has schema {SCHEMA + 1}.*install the newer"):
        store.records()
    assert file.exists()


def test_a_record_of_the_first_schema_is_upgraded(store):
    """One that mtl-bench wrote when it had that schema."""
    old = Path(__file__).with_name("record_v1.json")
    document = json.loads(old.read_text())
    file = store.folder / "runs" / f"{document['name']}.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(old.read_bytes())
    [record] = store.records().values()
    assert record.schema_version == SCHEMA == 2
    assert record.provenance.seeds == ()
    assert record.key == document["key"]
    assert record.result.model_dump(mode="json") == document["result"]
    assert file.read_bytes() == old.read_bytes()
    store.put(record, None)
    assert store.records() == {record.name: record}


def _folder(file):
    file.mkdir()
    (file / "mine.txt").write_text("mine")


ODD = {
    "a folder": _folder,
    "a pipe": os.mkfifo,
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a link that leads nowhere": lambda file: file.symlink_to("nowhere"),
    "a device": lambda file: file.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("taken", [False, True], ids=["", "set aside twice"])
def test_what_is_no_file_is_set_aside_and_waited_for_by_nobody(store, made, file, caplog, kind, taken):
    store.put(other := made("mgda", scores={("left", "accuracy", True): 0.5}), None)
    file.unlink()
    ODD[kind](file)
    aside = store.folder / "set-aside" / file.name
    if taken:
        aside.parent.mkdir()
        aside.write_text("the first one")
    assert list(store.records()) == [other.name]
    assert not os.path.lexists(file)
    [line] = caplog.messages
    if taken:
        assert aside.read_text() == "the first one"
        aside = aside.with_name(f"{file.name}.1")
    assert os.path.lexists(aside)
    assert line.endswith(f"set aside as {aside}")


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 3000,
        b'{"a":' * 3000,
        b'{"schema_version":1,"provenance":null}',
        b'{"schema_version":1,"provenance":3}',
        b'{"schema_version":1,"provenance":[1]}',
        b'{"schema_version":1,"provenance":{"seeds":1}}',
        b'{"schema_version":1e400}',
        b"1" * 5000,
        b'{"schema_version":true}',
        b'{"schema_version":NaN}',
    ],
    ids=lambda content: content[:42].decode(),
)
def test_no_json_is_too_odd_to_be_set_aside(refused, file, content):
    file.write_bytes(content)
    refused("is not a run's record")


@pytest.mark.parametrize(
    "place",
    [
        ("parts", "data"),
        ("result", "reason"),
        ("method_label",),
        ("provenance", "commit"),
        ("cost", "passes", "\ud800"),
    ],
    ids=lambda place: place[0],
)
def test_a_lone_surrogate_is_set_aside_wherever_it_is(refused, file, place):
    edit(file, *place, value="\ud800" if place[0] != "cost" else 1.0)
    refused("is not a run's record")


@pytest.mark.parametrize(
    "passes", [{"forward": 1.0}, {"x": 1.0}, dict.fromkeys(("forward", "heads", "trunk", "teacher"), -1.0)], ids=str
)
def test_passes_that_are_not_counts_of_every_kind_are_set_aside(refused, file, passes):
    edit(file, "cost", "passes", value=passes)
    refused("passes should be counts of forward, heads, trunk, teacher")


def test_a_record_that_cannot_be_read_is_named_and_blocks_nothing(store, file, made, monkeypatch, caplog):
    store.put(other := made("mgda", scores={("left", "accuracy", True): 0.5}), None)
    read = Path.read_bytes

    def refuse(self):
        if self == file:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert list(store.records()) == [other.name]
    assert f"{file} is not a run's record (it cannot be read: Permission denied)" in caplog.text


def test_pipes_in_the_place_of_weights_and_costs_are_waited_for_by_nobody(store, record, weights):
    stored = store.put(record, weights)
    file = store.folder / "runs" / f"{record.name}.safetensors"
    file.unlink()
    os.mkfifo(file)
    (store.folder / "costs").mkdir()
    os.mkfifo(store.folder / "costs" / "x.json")
    assert not store.has_weights(stored)
    assert store.costs() == []


def test_two_writers_of_one_file_never_share_a_temporary_name(tmp_path):
    names = {temporary(tmp_path / "a.json").name for _ in range(100)}
    assert len(names) == 100
    assert len(temporary(tmp_path / ("é" * 127)).name.encode()) <= 255


def test_temporary_files_of_killed_writers_go_when_they_are_old(store, file):
    lost = [temporary(folder / "x.json") for folder in (file.parent, store.folder, store.folder / "checkpoints")]
    fresh, mine = temporary(file), file.parent / ".x.json.mine.tmp"
    (store.folder / "checkpoints").mkdir()
    for path in (*lost, fresh, mine):
        path.write_text("half a rec")
    for path in (*lost, mine):
        os.utime(path, (0, 0))
    store.records()
    assert not any(path.exists() for path in lost)
    assert fresh.exists() and mine.exists()


def test_a_reason_and_a_log_without_end_are_kept_in_part(store, made):
    long = made("mgda", status="crashed", reason="\ud800" + "x" * 5_000_000)
    stored = store.put(long.model_copy(update={"log": ("y" * 1_000_000, "short")}), None)
    assert stored.result.reason.startswith("\\ud800xxx")
    assert stored.result.reason.endswith("(5000001 characters)")
    assert [len(line) < 1100 for line in stored.log] == [True, True]
    assert store.get(stored.name) == stored


def test_the_folder_stays_where_it_is_when_somebody_leaves_the_working_folder(tmp_path, monkeypatch, record):
    monkeypatch.chdir(tmp_path)
    store = Store(Path("out"))
    monkeypatch.chdir("/")
    store.put(record, None)
    assert Store(tmp_path / "out").get(record.name) == record


def test_each_writing_of_a_record_has_a_stamp_of_its_own(store, record):
    stamps = [store.stamp(record.name)]
    for _ in range(3):
        store.put(record, None)
        stamps.append(store.stamp(record.name))
    assert stamps[0] is None
    assert len(set(stamps)) == 4


@pytest.mark.parametrize("inside", ["", "deeper", "deeper/still"])
def test_a_folder_that_is_a_file_is_refused_at_once(tmp_path, inside):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file is a file: name a folder"):
        Store(tmp_path / "file" / inside)


def test_other_files_beside_the_records_are_left_alone(store, file):
    (file.parent / "notes.txt").write_text("mine")
    (file.parent / f".{file.name}.123").write_text("{")
    assert list(store.records()) == [file.stem]


def test_weights_come_back_as_they_were(store, record, weights):
    store.put(record, weights)
    back = store.weights(record.name)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], value) for name, value in weights.items())


def test_a_record_holds_the_sha256_of_its_weights(store, record, weights):
    stored = store.put(record, weights)
    data = (store.folder / "runs" / f"{record.name}.safetensors").read_bytes()
    assert stored.result.weights_sha256 == hashlib.sha256(data).hexdigest()
    assert store.get(record.name) == stored
    assert store.has_weights(stored)


def test_weights_are_there_before_their_record(store, record, weights, monkeypatch):
    """The rename of the record fails: its weights are there, and nobody believes in the record."""
    replace = Path.replace

    def fail(self, target):
        if target.suffix == ".json":
            raise Killed
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(Killed):
        store.put(record, weights)
    assert store.records() == {}
    assert [file.suffix for file in (store.folder / "runs").iterdir()] == [".safetensors"]


@pytest.mark.parametrize("damage", ["gone", "changed", "another's"])
def test_weights_that_are_not_the_records_are_missing(store, made, weights, damage):
    stored = store.put(made(seed=0), weights)
    other = store.put(made(seed=1), {"x": torch.ones(1)})
    file, others = (store.folder / "runs" / f"{r.name}.safetensors" for r in (stored, other))
    if damage == "gone":
        file.unlink()
    elif damage == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    else:
        file.write_bytes(others.read_bytes())
    assert not store.has_weights(stored)
    assert store.has_weights(other)
