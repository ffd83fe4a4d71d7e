"""Figures: fields, data misfit, marginals, chains. Matplotlib is imported when a figure is drawn."""

from sciprob.plot.chains import chains_figure
from sciprob.plot.data import Predictive, data_figure, intervals_figure
from sciprob.plot.fields import field_figure, samples_figure
from sciprob.plot.marginals import marginals_figure
from sciprob.plot.run import plot_run

__all__ = [
    "Predictive",
    "chains_figure",
    "data_figure",
    "field_figure",
    "intervals_figure",
    "marginals_figure",
    "plot_run",
    "samples_figure",
]
