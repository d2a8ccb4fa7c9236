"""A report of Markdown and figures as one HTML file, with the figures inside."""

import html
import itertools
import mimetypes
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

from cckd_jax.report import page


def render(text: str, folder: Path, *, numbers: Mapping[str, str]) -> str:
    """Renders Markdown as a page that needs no other file.

    Args:
      text: Markdown whose first line is the title, such as `# kd on mnist`.
      folder: to which the paths of figures are relative. A figure without a file becomes its description.
      numbers: the main numbers, which the page shows below the title, by their labels.

    Returns:
      The page: title, links to the sections, main numbers, and the text.

    >>> print(render('# kd on mnist', Path(), numbers={'student': '98%'}).partition('<body')[2].partition('<script')[0])
     class="report">
    <h1>kd on mnist</h1>
    <BLANKLINE>
    <dl class="numbers"><div><dt>student</dt><dd>98%</dd></div></dl>
    <BLANKLINE>
    <BLANKLINE>
    """
    parser = MarkdownIt('commonmark', {'html': False}).enable('table')
    tokens = parser.parse(text)
    sections = _name_sections(tokens)
    _embed_figures(tokens, folder)
    (title, heading) = (tokens[1].content, parser.renderer.render(tokens[:3], parser.options, {}))
    content = parser.renderer.render(tokens[3:], parser.options, {})
    # A narrow screen scrolls a table, not the page.
    content = content.replace('<table>', '<div class="wide"><table>').replace('</table>', '</table></div>')
    links = ''.join(f'<a href="#{name}">{html.escape(section)}</a>' for name, section in sections.items())
    cards = ''.join(
        f'<div><dt>{html.escape(label)}</dt><dd>{html.escape(number)}</dd></div>' for label, number in numbers.items()
    )
    navigation = f'<nav>{links}</nav>' if links else ''
    body = f'{heading}{navigation}\n<dl class="numbers">{cards}</dl>\n{content}'
    return page.render(title, body, kind='report')


def _name_sections(tokens: list[Token]) -> dict[str, str]:
    """Gives the headings of sections an anchor; returns their texts by anchor."""
    sections: dict[str, str] = {}
    for token, content in itertools.pairwise(tokens):
        if token.type == 'heading_open' and token.tag == 'h2':
            name = re.sub(r'\W+', '-', content.content.lower()).strip('-')
            if name in sections:
                name = f'{name}-{len(sections)}'
            token.attrSet('id', name)
            sections[name] = content.content
    return sections


def _embed_figures(tokens: list[Token], folder: Path) -> None:
    for token in tokens:
        for child in token.children or ():
            if child.type != 'image':
                continue
            path = folder / unquote(str(child.attrs['src']))
            if path.is_file():
                child.attrs['src'] = page.data_url(path.read_bytes(), mimetypes.guess_type(path)[0] or 'image/png')
            else:
                (child.type, child.tag) = ('text', '')
