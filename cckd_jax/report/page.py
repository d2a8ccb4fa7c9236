"""The HTML page of all reports: one file without network, light and dark, with tables that a click sorts."""

import base64
import html
from string import Template

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root {
  color-scheme: light dark;
  --text: light-dark(#1b1b1b, #e8e8e8); --back: light-dark(#fff, #000); --soft: light-dark(#666, #aaa);
  --line: light-dark(#ccc, #444); --stripe: light-dark(#f6f6f6, #1c1c1c);
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: var(--text); background: var(--back); }
body.report { max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; scroll-margin-top: 3rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
.nowrap :is(th, td) { white-space: nowrap; }
:is(th, td):first-child, .report :is(th, td):nth-child(2):last-child { text-align: left; }
tbody tr:nth-child(even) { background: var(--stripe); }
th button { font: inherit; color: inherit; text-align: inherit; background: none; border: 0; padding: 0;
  cursor: pointer; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
img { max-width: 100%; height: auto; }
.report img { box-sizing: border-box; padding: .5rem; background: #fff; border: 1px solid var(--line);
  border-radius: .5rem; }
code { overflow-wrap: anywhere; }
nav { position: sticky; top: 0; z-index: 1; display: flex; gap: 1rem; overflow-x: auto; white-space: nowrap;
  padding: .6rem 0; background: var(--back); border-bottom: 1px solid var(--line); }
a { color: light-dark(#0062a3, #7cc4ff); }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.numbers div { display: flex; flex-direction: column-reverse; justify-content: flex-end; padding: .6rem .8rem;
  border: 1px solid var(--line); border-radius: .5rem; }
.numbers dt { color: var(--soft); }
.numbers dd { margin: 0; font-size: 1.4rem; font-weight: 600; font-variant-numeric: tabular-nums; }
</style>
</head>
<body class="$kind">
$body
<script>
const text = cell => cell.dataset.value ?? cell.textContent.trim();
const number = value => Number(value.replace(/,/g, '').replace(/%?( ± .*)?$$/, ''));
for (const table of document.querySelectorAll('table')) {
  const body = table.tBodies[0];
  if (!body || body.rows.length < 2) continue;
  const original = [...body.rows];
  for (const header of table.tHead.rows[0].cells) {
    if (!header.textContent.trim()) continue;
    const button = document.createElement('button');
    button.append(...header.childNodes);
    header.append(button);
    button.onclick = () => {
      const direction = {ascending: 'descending', descending: null}[header.ariaSort];
      const next = direction === undefined ? 'ascending' : direction;
      for (const other of header.parentElement.cells) other.ariaSort = null;
      header.ariaSort = next;
      const value = row => text(row.cells[header.cellIndex]);
      const sign = next === 'descending' ? -1 : 1;
      const numeric = original.every(row => !isNaN(number(value(row))));
      const order = (a, b) => a === '' || b === '' ? (a === '') - (b === '')
        : sign * (numeric ? number(a) - number(b) : a.localeCompare(b, undefined, {numeric: true}));
      body.append(...(next ? [...original].sort((a, b) => order(value(a), value(b))) : original));
    };
  }
}
</script>
</body>
</html>
""")


def render(title: str, body: str, *, kind: str = '') -> str:
    """Puts the content of a page into the theme of all reports.

    Args:
      title: of the page, as plain text.
      body: HTML.
      kind: class of the body: `report` for text of limited width, empty for wide tables.

    Returns:
      The page. Browsers show it light or dark, as the reader prefers. A click on the title of a column sorts its table
      upwards, a second one downwards, and a third one restores the order.

    >>> '<title>kd &amp; dml</title>' in render('kd & dml', '<p>text</p>')
    True
    """
    return _PAGE.substitute(title=html.escape(title), body=body, kind=kind)


def data_url(image: bytes, kind: str = 'image/png') -> str:
    """The content of an image as an address that needs no file.

    >>> data_url(b'pixels')
    'data:image/png;base64,cGl4ZWxz'
    """
    return f'data:{kind};base64,{base64.b64encode(image).decode("ascii")}'
