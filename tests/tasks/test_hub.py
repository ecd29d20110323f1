"""Real data is found, checked and prepared once; and where it cannot be had, one line says what would help."""

import csv
import importlib.util
import json
import shutil
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import torch

from tasks.core import hub
from tasks.core.base import DataError
from tasks.core.hub import Copy, Source, prepared

ID = "somebody/digits"
COMMIT = "a" * 40
SOURCE = Source(
    f"{ID}@{COMMIT}", rows={"train": 200, "test": 50}, columns={"image": "Image", "label": "ClassLabel(10)"}
)


def labels(copy):
    """The least that can be prepared."""
    return {split: {"label": torch.tensor(data["label"][:])} for split, data in copy.read().items()}


def load(path="", source=SOURCE, build=labels):
    return prepared(source, str(path), build)


def complaint(*given, **changed):
    """What a load says that cannot work: one line."""
    with pytest.raises(DataError) as caught:
        load(*given, **changed)
    assert "\n" not in str(caught.value).strip()
    return str(caught.value)


def test_a_local_folder_is_read(image_folder, pictures):
    splits = load(image_folder)
    assert splits.keys() == {"train", "test"}
    assert splits["train"]["label"].tolist() == pictures(200, 1)[1].tolist()


def test_a_relative_path_and_a_home_are_understood(image_folder, monkeypatch):
    monkeypatch.chdir(image_folder.parent)
    monkeypatch.setenv("HOME", str(image_folder.parent))
    assert torch.equal(load("images")["test"]["label"], load("~/images")["test"]["label"])


def test_images_come_as_they_were_written(image_folder, pictures):
    copy = Copy(SOURCE, image_folder, fetched=False)
    found = copy.pixels(copy.read()["test"]["image"], 28, 28)
    assert found.dtype == torch.uint8
    assert torch.equal(found, torch.from_numpy(pictures(50, 2)[0]))


def test_the_second_load_reads_nothing_and_is_the_first(image_folder, monkeypatch):
    first = load(image_folder)
    monkeypatch.setattr(Copy, "read", lambda copy: pytest.fail("it was read again"))
    second = load(image_folder)
    assert all(torch.equal(second[split]["label"], first[split]["label"]) for split in first)


def test_changed_content_under_the_same_names_is_read_anew(tmp_path, write_images, pictures):
    images, numbers = pictures(200)
    folder = write_images(tmp_path / "changing", {"train": (images, numbers), "test": pictures(50)})
    before = load(folder)["train"]["label"]
    write_images(folder, {"train": (images, numbers[::-1])})
    after = load(folder)["train"]["label"]
    assert not torch.equal(before, after)
    assert after.tolist() == numbers[::-1].tolist()


def test_changed_code_prepares_anew(image_folder, tmp_path, monkeypatch):
    """A cache that knows a function by its name would return what the old one made."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which a rewrite within a second would not outdate
    found = []
    for value in (1, 2):
        file = tmp_path / "recipe.py"
        file.write_text(f"import torch\n\ndef build(copy):\n    return {{'train': {{'x': torch.tensor([{value}])}}}}\n")
        spec = importlib.util.spec_from_file_location(f"recipe{value}", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found.append(load(image_folder, build=module.build)["train"]["x"].item())
    assert found == [1, 2]


def test_another_declaration_is_checked_though_the_data_is_prepared(image_folder):
    load(image_folder)
    assert "and should have 40" in complaint(image_folder, source=replace(SOURCE, rows={"train": 200, "test": 40}))


def test_nothing_is_left_in_the_caches_of_datasets(image_folder, cache):
    from datasets import config

    before = set(config.HF_DATASETS_CACHE.glob("*"))
    load(image_folder)
    assert set(config.HF_DATASETS_CACHE.glob("*")) == before
    assert [file.suffix for file in cache.iterdir()] == [".safetensors"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert complaint(tmp_path / "nowhere") == f"{ID} in {tmp_path / 'nowhere'}: there is no such folder"


def test_a_folder_without_data_is_named(tmp_path):
    (tmp_path / "README.md").write_text("# Nothing\n")
    assert complaint(tmp_path) == f"{ID} in {tmp_path}: the folder has no *.parquet"


def test_a_split_that_is_missing_is_named(tmp_path, write_images, pictures):
    folder = write_images(tmp_path / "half", {"train": pictures(20)})
    (folder / "README.md").unlink()
    assert complaint(folder) == f"{ID} in {folder}: there is no test split: it has train"


def test_a_column_that_is_missing_is_named(tmp_path, write_images, pictures):
    folder = write_images(tmp_path / "wrong", {"train": pictures(20), "test": pictures(20)}, names=("picture", "label"))
    assert complaint(folder).endswith("the train split lacks the column image: it has picture, label")


@pytest.mark.parametrize(
    ("feature", "said"), [("int64", "int64"), ("string", "string"), ("classes", "ClassLabel(12)"), ("list", "List")]
)
def test_a_feature_that_is_another_is_named(tmp_path, write_images, pictures, feature, said):
    import datasets

    images, numbers = pictures(20)
    kinds = {
        "int64": (datasets.Value("int64"), numbers),
        "string": (datasets.Value("string"), [str(number) for number in numbers]),
        "classes": (datasets.ClassLabel(num_classes=12), numbers),
        "list": (datasets.List(datasets.Value("int64")), [[number] for number in numbers]),
    }
    kind, values = kinds[feature]
    split = (images, values)
    folder = write_images(tmp_path / "wrong", {"train": split, "test": split}, features=(datasets.Image(), kind))
    assert complaint(folder).endswith(f"the train split's label is {said}, and should be ClassLabel(10)")


def test_more_rows_than_there_are_is_no_such_data(image_folder):
    said = complaint(image_folder, source=replace(SOURCE, rows={"train": 100, "test": 50}))
    assert said == f"{ID} in {image_folder}: the train split has 200 rows, and should have 100"


def test_a_local_folder_may_hold_fewer_rows(image_folder):
    assert len(load(image_folder, source=replace(SOURCE, rows={"train": 1000, "test": 50}))["train"]["label"]) == 200


def test_an_image_of_another_size_is_named(image_folder):
    copy = Copy(SOURCE, image_folder, fetched=False)
    with pytest.raises(DataError, match="an image is 28×28 of uint8, and should be 32×32 of uint8"):
        copy.pixels(copy.read()["test"]["image"], 32, 32)


def test_a_colour_image_is_named(image_folder):
    import numpy as np

    with pytest.raises(DataError, match="an image is 28×28×3 of uint8"):
        Copy(SOURCE, image_folder, fetched=False).pixels([np.zeros((28, 28, 3), np.uint8)], 28, 28)


def test_a_torn_file_is_one_line(tmp_path, write_images, pictures):
    folder = write_images(tmp_path / "torn", {"train": pictures(20), "test": pictures(20)})
    file = folder / "digits" / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:1000])
    assert complaint(folder).startswith(f"{ID} in {folder}: ")


def test_what_is_not_parquet_is_not_read(tmp_path):
    (tmp_path / "train.json").write_text('{"image": 1, "label": 2}\n')
    (tmp_path / "old.parquet").write_text("")
    (tmp_path / "README.md").write_text("---\nconfigs:\n- {config_name: a, data_files: train.json}\n---\n")
    assert complaint(tmp_path) == f"{ID} in {tmp_path}: its data is json, and should be Parquet"


def test_a_script_beside_the_data_is_not_run(tmp_path, write_images, pictures):
    folder = write_images(tmp_path / "scripted", {"train": pictures(200), "test": pictures(50)})
    (folder / "scripted.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\n")
    assert "scripts are no longer supported" in complaint(folder)
    assert not (tmp_path / "run").exists()


# What the hub's cache has


def test_the_hubs_cache_is_read_without_the_network(image_folder, in_the_hubs_cache, monkeypatch):
    in_the_hubs_cache(image_folder, ID)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("the network was asked"))
    assert torch.equal(load()["train"]["label"], load(image_folder)["train"]["label"])


def test_what_is_prepared_needs_the_hubs_cache_no_more(image_folder, in_the_hubs_cache):
    home = in_the_hubs_cache(image_folder, ID)
    first = load()
    shutil.rmtree(home)
    assert torch.equal(load()["train"]["label"], first["train"]["label"])


def test_from_the_hub_every_row_must_be_there(image_folder, in_the_hubs_cache):
    in_the_hubs_cache(image_folder, ID)
    assert "has 200 rows, and should have 1,000" in complaint(source=replace(SOURCE, rows={"train": 1000, "test": 50}))


def test_another_commit_than_the_one_asked_for_is_not_taken(image_folder, in_the_hubs_cache):
    in_the_hubs_cache(image_folder, ID)
    load()
    assert f"{ID} (commit bbbbbbb) is not in the hub's cache" in complaint(
        source=replace(SOURCE, hub=f"{ID}@{'b' * 40}")
    )


def test_a_readme_alone_is_not_the_data(image_folder, in_the_hubs_cache):
    for file in in_the_hubs_cache(image_folder, ID).rglob("*.parquet"):
        file.unlink()
    assert "is not in the hub's cache" in complaint()


def test_a_folder_of_the_ids_name_here_is_not_the_hubs(image_folder, tmp_path, write_images, pictures, monkeypatch):
    write_images(tmp_path / ID, {"train": pictures(200), "test": pictures(50)})
    monkeypatch.chdir(tmp_path)
    assert "is not in the hub's cache" in complaint()


def test_a_folder_of_the_ids_name_here_does_not_shadow_the_hubs(
    image_folder, in_the_hubs_cache, tmp_path, write_images, pictures, monkeypatch
):
    in_the_hubs_cache(image_folder, ID)
    write_images(tmp_path / ID, {"train": pictures(200, 8), "test": pictures(50, 9)})
    monkeypatch.chdir(tmp_path)
    assert load()["test"]["label"].tolist() == pictures(50, 2)[1].tolist()


# Without the cache


def dns_fails(*_, **__):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def hangs():
    """A call that does not come back while the test runs."""
    end = threading.Event()

    def hang(*_, **__):
        end.wait(60)
        raise TimeoutError

    yield hang
    end.set()


def assert_helps(said):
    assert said.startswith(f"{ID} (commit aaaaaaa) is not in the hub's cache")
    assert all(way in said for way in ("HF_HOME", "[path=…]", "--tasks all"))


@pytest.mark.parametrize(
    ("what", "how"), [("getaddrinfo", "fails"), ("getaddrinfo", "hangs"), ("create_connection", "hangs")]
)
def test_without_network_it_says_so_within_four_seconds(in_the_hubs_cache, monkeypatch, hangs, what, how):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(socket, what, hangs if how == "hangs" else dns_fails)
    since = time.monotonic()
    said = complaint()
    assert time.monotonic() - since < 4
    assert_helps(said)
    assert "the hub does not answer" in said


@pytest.mark.parametrize("flag", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_the_flag_that_forbids_the_network_is_obeyed(in_the_hubs_cache, monkeypatch, flag):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv(flag, "1")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("the network was asked"))
    said = complaint()
    assert_helps(said)
    assert f"({flag} is set)" in said


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, ("huggingface.co", 443)),
        ({"HF_ENDPOINT": "http://mirror.example:8080/hf"}, ("mirror.example", 8080)),
        ({"https_proxy": "http://proxy.example:3128"}, ("proxy.example", 3128)),
        ({"https_proxy": "proxy.example:3128"}, ("proxy.example", 3128)),
        ({"https_proxy": "http://proxy.example:3128", "no_proxy": "huggingface.co"}, ("huggingface.co", 443)),
    ],
)
def test_it_knocks_where_the_client_would(monkeypatch, variables, address):
    for name in ("HF_ENDPOINT", "http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    knocked = []
    monkeypatch.setattr(socket, "create_connection", lambda where, timeout: knocked.append(where) or socket.socket())
    assert hub._answers()
    assert knocked == [address]


def test_what_is_required_is_a_folder_or_the_hubs_cache_or_the_hub(image_folder, in_the_hubs_cache, tmp_path):
    hub.require(SOURCE.hub, str(image_folder))
    with pytest.raises(DataError, match="there is no such folder"):
        hub.require(SOURCE.hub, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="is not in the hub's cache"):
        hub.require(SOURCE.hub, "")
    in_the_hubs_cache(image_folder, ID)
    hub.require(SOURCE.hub, "")
    with pytest.raises(DataError, match="is not in the hub's cache"):
        hub.require(f"{ID}@{'b' * 40}", "")


def test_a_hub_that_answers_is_enough(in_the_hubs_cache, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub, "_answers", lambda: True)
    hub.require(SOURCE.hub, "")


# From a hub


@pytest.fixture
def stand_in(image_folder):
    """A hub on this machine, with one repository; it keeps the paths that were asked for."""
    files = {str(file.relative_to(image_folder)): file.read_bytes() for file in image_folder.rglob("*.*")}
    files |= {"loader.py": b"raise SystemExit\n", "data.pkl": b"\x80"}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            path = unquote(urlsplit(self.path).path)
            server.asked.append((self.command, path))
            if path == f"/api/datasets/{ID}/revision/{COMMIT}":
                self.answer(json.dumps({"id": ID, "sha": COMMIT, "siblings": [], "tags": []}).encode())
            elif path == f"/api/datasets/{ID}/tree/{COMMIT}":
                found = [{"type": "file", "path": n, "size": len(d), "oid": "0"} for n, d in files.items()]
                self.answer(json.dumps(found).encode())
            elif path.startswith(start := f"/datasets/{ID}/resolve/{COMMIT}/"):
                self.answer(files[path.removeprefix(start)])
            else:
                self.send_error(404)

        do_HEAD = do_GET

        def answer(self, data):
            self.send_response(200)
            headers = {"Content-Length": len(data), "ETag": f'"{hash(data)}"', "X-Repo-Commit": COMMIT}
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


FETCH = f"""
import torch
from tasks.core.base import DataError
from tasks.core.hub import Source, prepared

def build(copy):
    print(copy.fetched, sorted(file.name for file in copy.folder.rglob("*.*")))
    return {{split: {{"label": torch.tensor(data["label"][:])}} for split, data in copy.read().items()}}

def load(id):
    return prepared(Source(id + "@{COMMIT}", {SOURCE.rows}, {SOURCE.columns}), "", build)["test"]["label"].tolist()

print(load("{ID}"))
print(load("{ID}"))
try:
    load("nobody/nothing")
except DataError as problem:
    print(problem)
"""


def test_it_is_fetched_from_a_hub_once_and_only_its_data(stand_in, python, pictures, tmp_path):
    (tmp_path / "fetch.py").write_text(FETCH)
    here = {"HF_ENDPOINT": f"http://127.0.0.1:{stand_in.server_port}", "no_proxy": "*", "HF_HOME": str(tmp_path / "hf")}
    done = python(tmp_path / "fetch.py", HF_HUB_OFFLINE="0", **here)
    assert done.returncode == 0, done.stderr
    files, first, second, absent = done.stdout.splitlines()
    names = ["README.md", "test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]
    assert files == f"True {names}"
    assert json.loads(first) == json.loads(second) == pictures(50, 2)[1].tolist()
    fetched = [path.rpartition("/")[2] for command, path in stand_in.asked if command == "GET" and "/resolve/" in path]
    assert sorted(fetched) == names
    assert absent.startswith("nobody/nothing (commit aaaaaaa) is not in the hub's cache, and cannot be fetched (")
    assert "404" in absent


# Real data


def test_the_real_data_trains_on_the_command_line(real, python, tmp_path):
    folders = {
        "census": real / "adult",
        "multifashion": real / "hub_shaped" / "zalando-datasets__fashion_mnist",
        "multimnist": real / "hub_shaped" / "ylecun__mnist",
    }
    tasks = ",".join(f"{name}[path={folder}]" for name, folder in folders.items())
    run = ("-m", "bench", "run", "--tasks", tasks, "--methods", "mgda", "--seeds", "1", "--protocol", "smoke")
    done = python(*run, "--engine", "inline", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    methods = Counter((row["task_set"].partition("@")[0], row["method"].partition("[")[0]) for row in rows)
    sizes = {"census": 6, "multifashion": 2, "multimnist": 2}
    assert methods == {(name, method): size for name, size in sizes.items() for method in ("stl", "equal", "mgda")}
    assert all(0.05 < float(row["value"]) < 0.9 and row["status"] == "ok" for row in rows)
