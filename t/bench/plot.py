# SPDX-License-Identifier: GPL-2.0-or-later
"""Bars, as SVG: a row's MB per CPU-second, behind it in grey the bare loop that bounds it, and below it
others that do the same work."""

from html import escape

ROW, OTHER, LABEL, BAR, WIDTH = 26, 18, 290, 540, 940
STYLE = ("text{font:13px sans-serif;fill:#24292f}.n{font-weight:600}.s{font-size:11px}.bare{fill:#d0d7de}"
         ".ours{fill:#0969da}.other{fill:#bc4c00}"
         "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bare{fill:#484f58}.ours{fill:#4493f8}"
         ".other{fill:#f0883e}}")


def _text(x, y, text, attributes=""):
    return f'<text x="{x:.1f}" y="{y}"{attributes}>{escape(text)}</text>'


def _bar(kind, y, width, height):
    return f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{max(width, 1):.1f}" height="{height}"/>'


def svg(rows, title):
    """rows: (what, speed, speed of the bare loop or None, [(other agent, speed)])."""
    scale = BAR / max(max(speed, bare or 0) for _, speed, bare, _ in rows)
    height = sum(ROW + OTHER * len(others) for *_, others in rows) + 64
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           f'viewBox="0 0 {WIDTH} {height}" role="img"><title>{escape(title)}</title>'
           f"<style>{STYLE}</style>" + _text(8, 22, title, ' class="n"')]
    y = 36
    for what, speed, bare, others in rows:
        out.append(_text(LABEL - 8, y + 15, what, ' text-anchor="end"'))
        if bare:
            out.append(_bar("bare", y, bare * scale, 20))
        out.append(_bar("ours", y + 4, speed * scale, 12))
        share = f" · {100 * speed / bare:.0f} %" if bare else ""
        out.append(_text(LABEL + max(speed, bare or 0) * scale + 6, y + 15, f"{speed:,.0f}{share}"))
        y += ROW
        for other, its_speed in others:
            out.append(_bar("other", y, its_speed * scale, 10))
            out.append(_text(LABEL + its_speed * scale + 6, y + 9, f"{its_speed:,.0f}  {other}", ' class="s"'))
            y += OTHER
    out.append(_text(8, height - 10, "grey: the bare loop that bounds the work, in the same run") + "</svg>")
    return "\n".join(out) + "\n"
