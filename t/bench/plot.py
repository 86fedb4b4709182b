# SPDX-License-Identifier: GPL-2.0-or-later
"""Bars, as SVG: a row's MB per CPU-second, and behind it in grey the bare loop that bounds it."""

from html import escape

ROW, LABEL, BAR, WIDTH = 26, 290, 560, 940
STYLE = ("text{font:13px sans-serif;fill:#24292f}.n{font-weight:600}.bare{fill:#d0d7de}.ours{fill:#0969da}"
         "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bare{fill:#484f58}.ours{fill:#4493f8}}")


def svg(rows, title):
    """rows: (what, speed, speed of the bare loop or None)."""
    most = max(max(speed, bare or 0) for _, speed, bare in rows)
    height = ROW * len(rows) + 64
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           f'viewBox="0 0 {WIDTH} {height}" role="img"><title>{escape(title)}</title>'
           f'<style>{STYLE}</style><text x="8" y="22" class="n">{escape(title)}</text>']
    for i, (what, speed, bare) in enumerate(rows):
        y = 36 + i * ROW
        out.append(f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(what)}</text>')
        if bare:
            out.append(f'<rect class="bare" x="{LABEL}" y="{y}" width="{BAR * bare / most:.1f}" height="20"/>')
        out.append(f'<rect class="ours" x="{LABEL}" y="{y + 4}" width="{BAR * speed / most:.1f}" height="12"/>')
        share = f" · {100 * speed / bare:.0f} %" if bare else ""
        end = BAR * max(speed, bare or 0) / most
        out.append(f'<text x="{LABEL + end + 6:.1f}" y="{y + 15}">{speed:,.0f}{share}</text>')
    out.append(f'<text x="8" y="{height - 10}">grey: the bare loop that bounds the work, in the same run</text></svg>')
    return "\n".join(out) + "\n"
