"""The blocks that HTML pages are made of. A page is one file that refers to nothing outside of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .style import CSS

Piece = tuple[str, float]  # text, and its weight from -1 to 1


class Raw(str):
    """Text that is HTML already."""


def page(title: str, body: Sequence[str], language: str = "en") -> str:
    """A whole document."""
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # No request leaves the page, whatever texts it shows.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'; '
        'img-src data:">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{_html(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{_class(kind)}>{_html(text)}</p>"


def bullets(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_html(line)}</li>' for line in lines)}</ul>" if lines else ""


def tiles(entries: Sequence[tuple[str, str, str]]) -> str:
    """Figures that matter most: (figure, what it is, addition)."""
    cells = "".join(
        f'<div class="tile"><span>{_html(what)}</span><b>{_html(figure)}</b><span>{_html(more)}</span></div>'
        for figure, what, more in entries
    )
    return f'<div class="tiles">{cells}</div>'


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", text_columns: Sequence[int] = (0,)
) -> str:
    """Rows under a header; the first cell of a row names it. Columns but ``text_columns`` are aligned as numbers."""
    heads = "".join(f'<th scope="col"{_number(i, text_columns)}>{_html(h)}</th>' for i, h in enumerate(header))
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td{_number(i, text_columns)}>{_html(cell)}</td>" for i, cell in enumerate(rest, 1))
        lines.append(f'<tr><th scope="row">{_html(first)}</th>{cells}</tr>')
    return _table(caption, heads, lines)


def heat_table(names: Sequence[str], counts: Sequence[Sequence[int]], caption: str) -> str:
    """A confusion matrix, each cell shaded by its share of the row."""
    heads = '<th scope="col">true \\ predicted</th>'
    heads += "".join(f'<th scope="col" class="n">{_html(name)}</th>' for name in names)
    lines = []
    for name, row in zip(names, counts):
        total = max(1, sum(row))
        cells = "".join(
            f'<td class="heat" style="--share:{count / total:.3f}">{count:,} '
            f'<span class="soft">{count / total:.1%}</span></td>'
            for count in row
        )
        lines.append(f'<tr><th scope="row">{_html(name)}</th>{cells}</tr>')
    return _table(caption, heads, lines)


def facts(values: Mapping[str, Any], caption: str) -> str:
    """Names and values, one a line."""
    lines = [
        f'<tr><th scope="row">{_html(name)}</th><td class="value">{_html(str(value))}</td></tr>'
        for name, value in values.items()
    ]
    heads = '<th scope="col">name</th><th scope="col">value</th>'
    return _table(caption, heads, lines)


def charts(figures: Sequence[tuple[str, str]]) -> str:
    """(SVG, caption) side by side where there is room; empty ones are left out."""
    drawn = "".join(f"<figure>{svg}<figcaption>{_html(text)}</figcaption></figure>" for svg, text in figures if svg)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def details(summary: str, body: str) -> str:
    return f"<details><summary>{_html(summary)}</summary>{body}</details>"


def marked_text(pieces: Sequence[Piece], label: str = "text") -> str:
    """A text whose pieces are shaded: for the prediction, or (underlined, too) against it."""
    parts = []
    for text, weight in pieces:
        if abs(weight) < 0.05:
            parts.append(escape(text))
        else:
            kind = "for" if weight > 0 else "against"
            parts.append(
                f'<mark class="{kind}" style="--weight:{0.1 + 0.55 * min(1.0, abs(weight)):.2f}" '
                f'title="{weight:+.2f}">{escape(text)}</mark>'
            )
    # A box that scrolls must be reachable by keyboard.
    return f'<div class="text" tabindex="0" role="group" aria-label="{escape(label)}">{"".join(parts)}</div>'


def footer(text: str) -> str:
    return f"<footer>{_html(text)}</footer>"


def _table(caption: str, heads: str, lines: Sequence[str]) -> str:
    title = f"<caption>{_html(caption)}</caption>" if caption else ""
    body = "".join(lines)
    return f'<div class="wide"><table>{title}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _number(column: int, text_columns: Sequence[int]) -> str:
    return "" if column in text_columns else ' class="n"'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _html(text: str) -> str:
    return text if isinstance(text, Raw) else escape(text)
