"""The HTML of a report: the page, and what its sections are made of."""

import base64
from html import escape
from string import Template

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: #fff;
  color: #1a1a1a; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { margin: 0; line-height: 1.2 }
h2 { margin: 2.5rem 0 .75rem; border-bottom: 2px solid #0072B2 }
.result { font-size: 1.15rem; max-width: 44rem }
small, figcaption, .note { color: #555; font-size: .875rem }
th small { display: block; font-weight: normal; line-height: 1.35 }
table { border-collapse: collapse; width: 100% }
th, td { padding: .4rem .5rem; border-bottom: 1px solid #ddd; text-align: right;
  vertical-align: top; font-variant-numeric: tabular-nums }
th:first-child { text-align: left; padding-left: 0 }
thead th { min-width: 4.5rem }
tbody th { font-weight: normal }
td { white-space: nowrap }
td small { display: block; white-space: normal }
.scroll th:first-child { position: sticky; left: 0; background: #fff;
  min-width: 6rem }
.scroll th { overflow-wrap: break-word }
.figures { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)) }
figure { margin: 0; break-inside: avoid }
img { display: block; width: 100%; height: auto }
.single { max-width: 31rem }
.scroll { overflow-x: auto }
.setting { font-size: .8125rem; max-width: 40rem }
.setting th, .setting td { padding: .15rem .3rem; white-space: normal }
.trials { font-size: .8125rem }
.trials thead th { min-width: 0; overflow-wrap: normal }
.text { min-width: 12rem; text-align: left; white-space: normal }
.wide { min-width: 18rem }
pre { padding: .75rem; background: #f4f4f4; white-space: pre-wrap }
summary { cursor: pointer; margin-top: 1rem }
@media print { body { max-width: none; padding: 0 }
  h2, h2 + .note { break-after: avoid }
  .scroll th { overflow-wrap: anywhere }
  .scroll { overflow: visible; font-size: .75rem }
  .figures { grid-template-columns: 1fr 1fr } tr { break-inside: avoid } }
</style>
</head>
<body>
$body
</body>
</html>
""")


def page(title, sections):
    """The whole page; the title is text, the sections are HTML."""
    return PAGE.substitute(title=escape(title), body="\n".join(sections))


def image(svg, alt, caption):
    """A figure of SVG bytes and two texts."""
    # As an image, since the ids and styles of SVGs inline would meet one another.
    source = base64.b64encode(svg).decode()
    return (
        f'<figure><img alt="{escape(alt)}" src="data:image/svg+xml;base64,{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def grid(*figures):
    return '<div class="figures">\n{}\n</div>\n'.format("\n".join(figures))


def table(kind, heads, rows):
    """A table whose cells are HTML; each row's first cell names it."""
    lines = [f'<table class="{kind}"><thead><tr>']
    lines += [f'<th scope="col">{head}</th>' for head in heads]
    lines.append("</tr></thead><tbody>")
    for first, *cells in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table>\n"])


def single(figure):
    """A figure that stands alone, as wide as one of a grid."""
    return f'<div class="single">{figure}</div>\n'


def scrolled(html):
    """What a narrow screen scrolls sideways."""
    return f'<div class="scroll">{html}</div>\n'


def folded(summary, html):
    """What is shown when its summary is clicked."""
    return f"<details><summary>{summary}</summary>\n{html}</details>\n"


def note(text):
    return f'<p class="note">{escape(text)}</p>\n'


def percent(share):
    return spaced(f"{share:.1%}")


def capital(text):
    """With a capital letter, all others as they were."""
    return text[:1].upper() + text[1:]


def spaced(text):
    return text.replace("%", "\N{NO-BREAK SPACE}%")


def breakable(text):
    """HTML that a narrow screen breaks after an underscore, not anywhere."""
    return escape(text).replace("_", "_<wbr>")


def short(name, length=20):
    return name if len(name) <= length else f"{name[: length - 1]}…"
