"""Types of the public face reach an author's type checker: the packages say that they are typed, and code uses them."""

import configparser
from pathlib import Path

import pytest
import typed_face
from setuptools import Distribution

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def shipped():
    """The files beside the modules that a wheel would hold, by package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        made = Distribution()
        made.parse_config_files()
        made.include_package_data = False  # what version control has, which leaves a folder behind
        build = made.get_command_obj("build_py")
        build.ensure_finalized()
        return {package: set(files) for package, _, _, files in build.data_files}


@pytest.mark.parametrize("package", ["bench", "methods", "tasks"])
def test_a_wheel_says_that_a_package_is_typed(shipped, package):
    assert "py.typed" in shipped[package]


def test_a_wheel_holds_the_files_that_new_writes(shipped):
    assert shipped["bench.authors"] >= {"method.txt", "taskset.txt"}


def test_the_type_checker_reads_the_code_of_an_author():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "tox.ini")
    assert "mypy tests/typed_face.py" in settings["testenv:types"]["commands"].splitlines()


def test_the_code_of_an_author_does_what_its_types_say():
    method, weights = typed_face.train(steps=2)
    assert repr(method) == "Halved(num_tasks=2, share=0.25)"
    assert weights is not None and weights.tolist() == [0.25, 0.25]
    assert [task.name for task in typed_face.Lines().tasks] == ["up", "down"]
    delta, word = typed_face.judge([[1.1], [1.2], [1.3]], [[1.0], [1.0], [1.0]])
    assert (round(delta, 6), word) == (20.0, "not enough seeds")
