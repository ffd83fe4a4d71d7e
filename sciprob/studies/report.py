"""A comparison as one HTML file that needs nothing else: pictures inside, no scripts."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciprob import __version__
from sciprob.plot.comparison import comparison_figure, scores_figure
from sciprob.solvers.runfolder import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciprob.studies.comparison import Comparison

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2rem }
p.equation { margin: 1rem 0 } p.equation img { height: 2.1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
th { font-weight: 600; vertical-align: bottom } th:first-child, td:first-child { text-align: left }
tr.referee td { background: #f1f6fb } figure { margin: 1rem 0 } figure img { max-width: 100% }
pre { background: #f6f6f6; padding: .6rem; overflow-x: auto; font-size: .8rem } summary { cursor: pointer }
figcaption, .small { color: #666; font-size: .85rem }
"""
_COLUMNS = {
    "solver": "solver",
    "status": "status",
    "relative_error": "relative error",
    "coverage_0.5": "50 % intervals hold",
    "coverage_0.9": "90 % intervals hold",
    "crps": "CRPS",
    "mean_difference": "mean difference",
    "std_ratio": "std ratio",
    "sliced_wasserstein": "Wasserstein",
    "forward": "forward",
    "adjoint": "adjoint",
    "tangent": "tangent",
    "network_calls": "network calls",
    "seconds": "seconds",
}


def write_report(comparison: Comparison, path: Path) -> Path:
    """Write the report."""
    write_text(path, report(comparison))
    return path


def report(comparison: Comparison) -> str:
    """The report as HTML."""
    problem = comparison.problem
    title = problem.info.title or problem.name
    reasons = [f"<p>{_text(row['solver'])}: {_text(row['reason'])}</p>" for row in comparison.rows if "reason" in row]
    advice = [
        f"<p><b>{_text(label)}</b>: {_text(posterior.meta.get('advice', ''))}</p>"
        for label, posterior in comparison.posteriors.items()
    ]
    parts = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="small">{_text(problem.name)}, sciprob {_text(__version__)}</p>',
        _equation(problem.info.equation),
        f"<p>{_text(problem.info.description)}</p>",
        "<h2>Scores</h2>",
        _table(comparison.rows, comparison.referee),
        _legend(comparison),
        *reasons,
        _picture(
            "Scores; grey: the referee, red line: the value to be reached.",
            lambda: scores_figure(comparison.rows, comparison.referee),
        ),
        "<h2>Posteriors</h2>",
        _picture(
            "Means and standard deviations on common scales, or means with 90 % intervals.",
            lambda: comparison_figure(comparison.posteriors, problem.truth),
        ),
        "<h2>How the runs ended</h2>",
        *advice,
        "<h2>Settings</h2>",
        _settings(comparison),
    ]
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _table(rows: Sequence[Mapping[str, Any]], referee: str) -> str:
    kept = {key: words for key, words in _COLUMNS.items() if any(row.get(key) not in (None, 0) for row in rows)}
    head = "".join(f"<th>{_text(words)}</th>" for words in kept.values())
    lines = []
    for row in rows:
        cells = "".join(f"<td>{_cell(row.get(key))}</td>" for key in kept)
        lines.append(f'<tr class="referee">{cells}</tr>' if row["solver"] == referee else f"<tr>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _legend(comparison: Comparison) -> str:
    words = (
        f"Referee: {comparison.referee}. Mean difference: mean over entries of |mean - mean of the referee| in "
        "standard deviations of the referee. Std ratio: mean over entries of the ratio of standard deviations. "
        "Wasserstein: sliced 2-Wasserstein distance of 200 draws in the same unit; the value in the referee's own "
        "row is what two sets of draws of one posterior have. Forward, adjoint and tangent are solves."
    )
    return f'<p class="small">{_text(words)}</p>'


def _settings(comparison: Comparison) -> str:
    """Those of problem and solvers as they stand in a TOML file, folded away."""
    import tomli_w

    tables = {comparison.problem.name: dict(comparison.problem.config), **comparison.settings}
    parts = [
        f"<details><summary>{_text(name)}</summary><pre>{html.escape(tomli_w.dumps(table))}</pre></details>"
        for name, table in tables.items()
        if table
    ]
    return "\n".join(parts)


def _equation(latex: str) -> str:
    """The equation as a picture, or as text where Matplotlib cannot set it."""
    if not latex:
        return ""
    from matplotlib.mathtext import math_to_image

    stream = io.BytesIO()
    try:
        math_to_image(f"${latex}$", stream, dpi=200, format="png")
    except ValueError:  # commands that its math text lacks
        return f"<p><code>{_text(latex)}</code></p>"
    return f'<p class="equation"><img alt="{_text(latex)}" src="{_inline(stream.getvalue())}"></p>'


def _picture(caption: str, draw: Callable[[], Figure]) -> str:
    stream = io.BytesIO()
    draw().savefig(stream, format="png", dpi=130, facecolor="white")
    words = _text(caption)
    return f'<figure><img alt="{words}" src="{_inline(stream.getvalue())}"><figcaption>{words}</figcaption></figure>'


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return _text(value)
    return f"{value:d}" if isinstance(value, int) else f"{value:.3g}"


def _text(words: Any) -> str:
    return html.escape(" ".join(str(words).split()))
