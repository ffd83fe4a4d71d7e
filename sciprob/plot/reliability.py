"""Reliability diagrams."""

from __future__ import annotations

from typing import Any

from sciprob.metrics.probabilities import Reliability
from sciprob.plot.style import DATA, MUTED, POSTERIOR, dress


def reliability_panel(axes: Any, diagram: Reliability, title: str = "reliability") -> None:
    """Observed frequency over forecast probability, the diagonal of perfect forecasts, and the counts as bars.

    The area of a mark grows with the logarithm of its count; bars show the share of forecasts in each class.
    """
    full = diagram.counts > 0
    forecast, observed = diagram.forecast[full].numpy(), diagram.observed[full].numpy()
    bins = len(diagram.counts)
    share = (diagram.counts / diagram.counts.sum()).numpy()
    axes.bar([(k + 0.5) / bins for k in range(bins)], share, width=0.9 / bins, color=MUTED, alpha=0.25, linewidth=0)
    axes.plot([0, 1], [0, 1], color=DATA, linewidth=0.8, linestyle="--")
    axes.plot(forecast, observed, color=POSTERIOR, linewidth=1.2)
    area = 12 + 8 * (1 + diagram.counts[full]).log10().numpy()
    axes.scatter(forecast, observed, s=area, color=POSTERIOR, zorder=3)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_aspect("equal")
    dress(axes, f"{title}\n(calibration error {diagram.calibration_error:.3f})", "forecast probability", "frequency")
