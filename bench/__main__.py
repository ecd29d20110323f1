"""`python -m bench`."""

import importlib.util
import os
import sys
from pathlib import Path

PACKAGES = Path(__file__).resolve().parent.parent


def search_own_packages_first() -> None:
    """Let Python look into the working folder last, where a `tasks.py` would hide our package of that name."""
    here = os.getcwd()
    if sys.path and sys.path[0] in ("", here) and Path(here).resolve() != PACKAGES:
        sys.path.append(sys.path.pop(0))


def require_own_packages() -> None:
    """Exit with a line that names what hides a package of ours still, as a folder on PYTHONPATH may."""
    for name in ("methods", "tasks"):
        spec = importlib.util.find_spec(name)
        file = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if file != PACKAGES / name / "__init__.py":
            print(
                f"error: {file} hides the package '{name}' of mtl-bench: rename it, or take its folder off PYTHONPATH",
                file=sys.stderr,
            )
            sys.exit(2)


if __name__ == "__main__":
    search_own_packages_first()
    require_own_packages()
    from bench.cli import main

    main()
