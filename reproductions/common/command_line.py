"""The command-line arguments that all reproductions have."""

import argparse
import os
import pathlib


def positive_integer(text):
    """The type of a command-line argument that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"Expected 1 or more. Got: {text}")
    return value


def make_parser(name, description, experiments, scales, scale):
    """Returns a parser of the arguments that all experiments have.

    Args:
        name: The name of the reproduction's package.
        description: The docstring of the command.
        experiments: Names of all experiments.
        scales: Names of the scales.
        scale: The default one.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m reproductions.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "experiments",
        nargs="*",
        metavar="experiment",
        help=f"which of {', '.join(experiments)} (default: all except search)",
    )
    parser.add_argument(
        "--scale",
        choices=scales,
        default=scale,
        help="numbers of networks, examples and epochs (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=positive_integer,
        default=os.cpu_count(),
        help="networks that are trained at a time (default: one a core)",
    )
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("output") / name,
        help="folder of networks, results and figures (default: %(default)s)",
    )
    return parser


def choose_experiments(parser, names, known, default):
    """Returns a dict of the experiments that were asked for, by their names.

    Args:
        parser: The parser, which ends the command if there is no such one.
        names: What was asked for. Nothing means the default.
        known: Dict from names to modules.
        default: Names.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        parser.error(
            f"Expected experiments among {', '.join(known)}. "
            f"Got: {', '.join(unknown)}"
        )
    return {name: known[name] for name in names or default}
