"""Figures that several experiments have."""

from matplotlib import ticker


def save_errors(figure, path):
    """Writes a figure of errors, with a logarithmic axis of plain numbers."""
    ax = figure.axes[0]
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(ticker.NullFormatter())
    figure.savefig(path, dpi=150, bbox_inches="tight")
