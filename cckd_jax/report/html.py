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


def render(text: str, folder: Path, *, numbers: Mapping[str, str], interactive: Mapping[str, str] | None = None) -> str:
    """Renders Markdown as a page that needs no other file.

    Args:
      text: Markdown whose first line is the title, such as `# kd on mnist`.
      folder: to which the paths of figures are relative. A figure without a file becomes its description.
      numbers: the main numbers, which the page shows below the title, by their labels.
      interactive: HTML that comes before a figure, by the path of the figure; the figure is then folded.

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
    paths = _embed_figures(tokens, folder)
    (title, heading) = (tokens[1].content, parser.renderer.render(tokens[:3], parser.options, {}))
    content = parser.renderer.render(_with_interactive(tokens[3:], paths, interactive or {}), parser.options, {})
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


def _embed_figures(tokens: list[Token], folder: Path) -> dict[str, str]:
    """Replaces the paths of figures by their content; returns the paths by content."""
    paths = {}
    for token in tokens:
        for child in token.children or ():
            if child.type != 'image':
                continue
            name = unquote(str(child.attrs['src']))
            path = folder / name
            if path.is_file():
                url = page.data_url(path.read_bytes(), mimetypes.guess_type(path)[0] or 'image/png')
                child.attrs['src'] = url
                paths[url] = name
            else:
                (child.type, child.tag) = ('text', '')
    return paths


def _with_interactive(tokens: list[Token], paths: Mapping[str, str], interactive: Mapping[str, str]) -> list[Token]:
    """Puts HTML before the paragraphs of its figures, and folds these."""
    placed: list[Token] = []
    fold = False
    for token in tokens:
        images = [child for child in token.children or () if child.type == 'image']
        added = interactive.get(paths.get(str(images[0].attrs['src']), '')) if images else None
        if added:
            before = f'{added}<details><summary>{html.escape(images[0].content)}, as an image</summary>\n'
            placed.insert(-1, Token('html_block', '', 0, content=before))
            fold = True
        placed.append(token)
        if fold and token.type == 'paragraph_close':
            placed.append(Token('html_block', '', 0, content='</details>\n'))
            fold = False
    return placed
