"""The report as one HTML file: it shows what the Markdown shows, and needs no other file."""

import pytest
from helpers import Page, check_report

from cckd_jax.report import html

PNG = b'\x89PNG\r\n\x1a\n'
TEXT = """\
# kd on <digits>

Two of `x_1` < 3.

## Which samples?

![the curves](figures/curves.png)

| | share |
|---|---|
| student \\| alone | 98% |

## Which samples?

![no file](figures/missing.png)
"""


@pytest.fixture
def page(tmp_path):
    (tmp_path / 'figures').mkdir()
    (tmp_path / 'figures' / 'curves.png').write_bytes(PNG)
    return html.render(TEXT, tmp_path, numbers={'student': '98%'})


def test_a_page_needs_no_other_file(page):
    tags = Page(page)
    (image,) = tags.all('img')
    assert image == {'src': 'data:image/png;base64,iVBORw0KGgo=', 'alt': 'the curves'}
    assert not tags.all('link')
    assert all('src' not in script for script in tags.all('script'))
    assert 'no file' in page


def test_sections_have_links_of_different_names(page):
    tags = Page(page)
    names = [attributes['id'] for attributes in tags.all('h2')]
    assert names == ['which-samples', 'which-samples-1']
    assert [attributes['href'] for attributes in tags.all('a')] == [f'#{name}' for name in names]


def test_the_text_is_escaped(page):
    assert '<title>kd on &lt;digits&gt;</title>' in page
    assert '<h1>kd on &lt;digits&gt;</h1>' in page
    assert '<code>x_1</code> &lt; 3' in page
    assert '<td>student | alone</td>' in page


def test_the_page_of_a_run_shows_what_its_markdown_shows(trained):
    check_report(trained)
