"""Every block of code on the page about own loops runs, after the first one, which all share."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "own-loop.md"
FIRST, *BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def run(code, names):
    exec(compile(code, str(PAGE), "exec"), names)
    return names


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().partition("\n")[0])
def test_a_block_of_the_page_runs(block):
    names = run(FIRST, {"__name__": "page"})
    run(block, names)
    network = names.get("net") or getattr(names.get("trainer"), "model", None)
    assert network is not None


def test_the_page_has_the_recipes_that_loops_ask_for():
    page = PAGE.read_text(encoding="utf-8")
    for word in ("clip_grad_norm_", "accumulate", "autocast", "zero_grad", "lightning.LightningModule", "Trainer"):
        assert word in page
