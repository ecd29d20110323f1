"""The draw of generated data, which is an option of every set that makes its data itself."""


def require_draw(draw: int) -> int:
    """Return `draw`, which seeds the generator of a set's data.

    Raises:
        ValueError: it is below zero.
    """
    if draw < 0:
        raise ValueError(f"draw={draw}: the draw of the data is a number from 0 on")
    return draw
