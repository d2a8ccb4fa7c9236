"""The report as one HTML file: it shows what the Markdown shows, and needs no other file."""

import pytest
from helpers import Page, check_report

from cckd_jax.report import curves, html

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


def test_the_curves_hold_the_values_of_each_epoch():
    rows = [{'epoch': 0, 'train_accuracy': 0.5, 'loss': 4.0}, {'epoch': 1, 'train_accuracy': 0.75, 'loss': None}]
    tags = Page(curves.render({'teacher': rows[:1], 'student_1': rows, 'separate': []}))
    assert [(line['data-network'], line['data-values']) for line in tags.all('polyline')] == [
        ('teacher', '[[1, 0.5]]'),
        ('student_1', '[[1, 0.5], [2, 0.75]]'),
        ('teacher', '[[1, 4.0]]'),
        ('student_1', '[[1, 4.0]]'),
    ]
    # The area of the lines: from 46 to 350, and from 200 up to 10.
    assert tags.all('polyline')[1]['points'] == '46.0,200.0 350.0,10.0'
    assert [button['data-network'] for button in tags.all('button')] == ['teacher', 'student_1']
    assert curves.render({'student': []}) == ''


def test_kept_shares_are_drawn_if_samples_were_left_out():
    shares = [{'student': [{'epoch': 0, 'kept_share': share}]} for share in (1.0, 0.5)]
    assert ['samples kept' in curves.render(runs) for runs in shares] == [False, True]


def test_interactive_curves_fold_their_figure(tmp_path):
    (tmp_path / 'curves.png').write_bytes(PNG)
    text = '# title\n\n![curves](curves.png)\n\nthe end'
    page = html.render(text, tmp_path, numbers={}, interactive={'curves.png': '<svg></svg>'})
    tags = [tag for tag, _ in Page(page).tags]
    assert tags[tags.index('svg') :] == ['svg', 'details', 'summary', 'p', 'img', 'p', 'script']
    assert page.index('<svg>') < page.index('<img') < page.index('</details>') < page.index('the end')
