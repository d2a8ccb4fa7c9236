"""Sphinx configuration of the documentation; `make docs` builds it.

The source directory is the root of the repository, so that README, CONTRIBUTING, CHANGELOG, `examples/` and `docs/` are
pages as they are, and a link that works on GitHub works on the site.
"""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import cckd_jax  # noqa: E402  the path is set before

project = 'cckd-jax'
release = cckd_jax.__version__
html_title = f'cckd-jax {release}'
root_doc = 'docs/index'
include_patterns = ['*.md', 'docs/**', 'examples/**', 'benchmarks/README.md']
exclude_patterns = ['docs/reproduction/runs/**', 'docs/site/**']

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
html_math_renderer = 'mathml'
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 4
highlight_language = 'none'  # indented blocks are commands and their output

# The tour runs once, here, and an error in it ends the build.
nb_execution_mode = 'force'
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_output_stderr = 'remove'  # progress, and paths of the machine that built the site

autodoc_member_order = 'groupwise'
autodoc_typehints = 'none'  # types and shapes are in the docstrings
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_use_ivar = True  # a field of a named tuple is documented once, among the attributes

html_theme = 'furo'
html_static_path = ['site']
html_css_files = ['site.css']
html_extra_path = ['site/index.html']
html_show_sourcelink = False
html_copy_source = False

_MARKUP = re.compile(r'\$([^$]+)\$|(?<!`)`([^`\n]+)`(?!`)|\|')


def to_restructured_text(text: str) -> str:
    r"""Docstrings have Markdown's `code` and $formula$, as they read well in a terminal; Sphinx has roles.

    >>> to_restructured_text('$|D|$ of `x` and |D|')
    ':math:`|D|` of ``x`` and \\|D\\|'
    """

    def role(match: re.Match[str]) -> str:
        (formula, code) = match.groups()
        return f':math:`{formula}`' if formula else f'``{code}``' if code else r'\|'

    # An example and its output, up to the next empty line, stay as they are.
    paragraphs = text.split('\n\n')
    return '\n\n'.join(
        paragraph if paragraph.lstrip().startswith('>>>') else _MARKUP.sub(role, paragraph) for paragraph in paragraphs
    )


def _convert(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_restructured_text('\n'.join(lines)).split('\n')


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out what a package imports for its own use, and fields that the docstring of a named tuple describes."""
    foreign = not getattr(obj, '__module__', 'cckd_jax').startswith('cckd_jax')
    field = getattr(obj, '__doc__', None) or ''
    return True if isinstance(obj, ModuleType) or foreign or field.startswith('Alias for field number') else None


def _inline_formula(translator: Any, node: nodes.math) -> NoReturn:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _displayed_formula(translator: Any, node: nodes.math_block) -> NoReturn:
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connects the handlers; docstrings are converted before napoleon reads them.

    Formulas become MathML, which browsers show without a script from another server.
    """
    app.add_html_math_renderer('mathml', (_inline_formula, None), (_displayed_formula, None))
    app.connect('autodoc-process-docstring', _convert, priority=400)
    app.connect('autodoc-skip-member', _skip)
