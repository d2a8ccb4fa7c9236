"""An evaluator from outside the package: how far the logits of each network spread."""

from matplotlib.figure import Figure

from cckd_jax.evaluators import Evaluator
from cckd_jax.report import markdown, style


def measure(run, predictions):
    return {name: float(logits.std()) for name, logits in predictions.logits.items()}


def table(section):
    rows = [[style.label(name), f'{spread:.3f}'] for name, spread in section.items()]
    return f'## Spread of the logits\n\n{markdown.table(["", "spread"], rows)}\n\n![spread](figures/spread.png)'


def figure(workdir, section):
    drawing = Figure(figsize=(4, 3), layout='constrained')
    drawing.subplots().bar(list(section), list(section.values()))
    style.save(drawing, workdir / 'figures' / 'spread.png')


SPREAD = Evaluator(measure, table, figure)
