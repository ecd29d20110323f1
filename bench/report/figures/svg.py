"""Draws figures and writes them as small inline SVG, in the page's colours, each with a title and a description.

What is drawn goes through matplotlib and an XML writer, which escapes every text. Only known elements and attributes
are kept; a style becomes a class of the page's style sheet, which is shorter than a style on every element.
"""

import gc
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bench.report.figures.look import COLOURS, LOOK

SVG, HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
LENGTHS = re.compile(r"(?:stroke-width|stroke-dasharray|stroke-dashoffset|font-size):[^;]*")
FINE = 5
"""Units of a drawing in a point: as fine as is seen, so that whole numbers do as coordinates."""


@dataclass(frozen=True)
class Plot:
    """What one figure shows."""

    figure: Figure
    heads: Sequence[str]
    rows: list[list[str]]
    """The table of its numbers; the first cell names the row."""
    note: str = ""
    """What the caption adds for this board, such as the methods that are not drawn."""
    wide: bool = False
    """Whether it takes the width of the page."""


@dataclass(frozen=True)
class Drawing:
    """A figure as a page shows it."""

    title: str
    caption: str
    svg: Markup
    styles: tuple[tuple[str, str], ...]
    """(class, declarations), for the page's style sheet."""
    heads: Sequence[str]
    rows: list[list[str]]
    wide: bool


def draw(asked: Iterable[tuple[str, str, Callable[[], Plot | None]]], prefix: str) -> list[Drawing]:
    """Draw the figures (title, caption, maker) whose makers find something to show; `prefix` makes ids unique."""
    drawn: list[Drawing] = []
    gc.freeze()  # to look for garbage among thousands of records takes longer than to draw
    try:
        with matplotlib.rc_context(LOOK), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
            for title, caption, make in asked:
                if (plot := make()) is not None:
                    caption = f"{caption} {plot.note}".strip()
                    svg, styles = _svg(plot.figure, title, caption, f"{prefix}f{len(drawn)}")
                    drawn.append(Drawing(title, caption, svg, styles, plot.heads, plot.rows, plot.wide))
    finally:
        gc.unfreeze()
    return drawn


def _svg(figure: Figure, title: str, caption: str, prefix: str) -> tuple[Markup, tuple[tuple[str, str], ...]]:
    """Return a figure as SVG, and the classes that it uses."""
    written = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(written, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ElementTree.fromstring(written.getvalue())
    ids: dict[str, str] = {}
    for use in root.iter(f"{SVG}use"):
        ids.setdefault(use.attrib[HREF][1:], f"{prefix}-{len(ids)}")
    styles: dict[str, str] = {}
    about = {"role": "img", "aria-labelledby": f"{prefix}t", "aria-describedby": f"{prefix}d"}
    kept = ElementTree.Element("svg", {"viewBox": _scaled(root.attrib["viewBox"]), **about})
    ElementTree.SubElement(kept, "title", id=f"{prefix}t").text = title
    ElementTree.SubElement(kept, "desc", id=f"{prefix}d").text = f"{caption} The numbers are in the table below."
    _keep(root, kept, ids, styles)
    _in_line(kept)
    return Markup(ElementTree.tostring(kept, "unicode")), tuple(sorted(styles.items()))


def _keep(source: ElementTree.Element, kept: ElementTree.Element, ids: dict[str, str], styles: dict[str, str]) -> None:
    """Copy what is seen of an element's children. Groups are dissolved, as none has a style of its own."""
    for child in source:
        tag = child.tag.removeprefix(SVG)
        if tag in ("g", "defs"):
            inside = kept if tag == "g" else ElementTree.Element("defs")
            _keep(child, inside, ids, styles)
            if tag == "defs" and len(inside):
                kept.append(inside)
            continue
        style = _style(child.get("style", ""))
        if tag not in ("path", "use", "text") or style == "fill:none" or (tag == "path" and not child.get("d")):
            continue
        made = ElementTree.SubElement(kept, tag)
        if (name := child.get("id")) in ids:
            made.set("id", ids[name])
        if tag == "path":
            made.set("d", _path(child.attrib["d"]))
        elif tag == "use":
            made.set("href", f"#{ids[child.attrib[HREF][1:]]}")
        elif child.text:
            made.text = child.text
        for name in ("x", "y"):
            if (value := child.get(name)) is not None:
                made.set(name, str(round(FINE * float(value))))
        if turned := _turned(child.get("transform", "")):
            made.set("transform", turned)
        if style:
            name = f"f{hashlib.sha256(style.encode()).hexdigest()[:6]}"
            styles[name] = style
            made.set("class", name)


def _style(style: str) -> str:
    """Return a style in the page's colours and font, its lengths in the units of the drawing."""
    for name, colour in COLOURS.items():
        style = style.replace(colour, f"var(--{name})")
    style = re.sub(r"font: [^;]*?([\d.]+px)[^;]*", r"font-size: \1", style)  # as matplotlib before 3.11 writes it
    style = re.sub(r"font-family: [^;]*;?", "", style)
    if "stroke: var" in style and "stroke-width" not in style:
        style += "; stroke-width: 1"  # which goes without saying in points
    style = LENGTHS.sub(lambda found: _scaled(found[0]), style)
    return re.sub(r":\s+", ":", re.sub(r";\s*", ";", style)).strip("; ")


def _turned(transform: str) -> str:
    """Return a transformation in the units of the drawing; empty if it is none. Angles stay as they are."""
    if transform.startswith("rotate(-0 "):
        return ""
    return re.sub(r"(rotate\(\S+?)(?=[ )])|[^r]+", lambda found: found[1] or _scaled(found[0]), transform)


def _path(d: str) -> str:
    """Return a path in relative steps, which takes half the characters."""
    made, at, start = [], (0, 0), (0, 0)
    for command, numbers in re.findall(r"([MLCQz])([^MLCQz]*)", d):
        if command == "z":
            made.append("z")
            at = start
            continue
        ends = [round(FINE * float(number)) for number in numbers.split()]
        steps = [end - at[i % 2] for i, end in enumerate(ends)]
        made.append(command.lower() + " ".join(map(str, steps)).replace(" -", "-"))
        at = (ends[-2], ends[-1])
        if command == "M":
            start = at
    return "".join(made)


def _scaled(text: str) -> str:
    """Return a text with its numbers, lengths in points, in the units of the drawing."""
    return NUMBER.sub(lambda found: f"{FINE * float(found[0]):.3g}", text)


def _in_line(kept: ElementTree.Element) -> None:
    """Put neighbours with the same class into one group that has it."""
    children = list(kept)
    kept[:] = []
    for name, run in groupby(children, key=lambda child: child.get("class")):
        alike = list(run)
        if name is not None and len(alike) > 1:
            for child in alike:
                del child.attrib["class"]
            group = ElementTree.SubElement(kept, "g", {"class": name})
            group.extend(alike)
        else:
            kept.extend(alike)
