"""`python -m bench`."""

import importlib.util
import sys
from pathlib import Path

PACKAGES = Path(__file__).resolve().parent.parent


def require_own_packages() -> None:
    """Exit with a line that names what hides a package of ours: Python looks into the working folder first."""
    for name in ("methods", "tasks"):
        spec = importlib.util.find_spec(name)
        file = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if file != PACKAGES / name / "__init__.py":
            print(
                f"error: {file} hides the package '{name}' of mtl-bench: rename it, work in another folder, or use the "
                "command mtl-bench in the place of python -m bench",
                file=sys.stderr,
            )
            sys.exit(2)


if __name__ == "__main__":
    require_own_packages()
    from bench.cli import main

    main()
