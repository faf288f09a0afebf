"""What the benchmarks share: alternating runs, paired ratios, tables, JSON."""

import argparse
import functools
import gc
import json
import os
import pathlib
import platform
import random
import resource
import shlex
import subprocess
import sys
import time
import typing

import keras
import numpy as np
import tensorflow as tf

import keras_distill


class Ratio(typing.NamedTuple):
    """A quotient of variants that were measured in the same round.

    Args:
        name: How the table and the JSON call it.
        numerator: Names of the variants that are added up above the line.
        denominator: Names of the variants that are added up below it.
        target: The largest median that is aimed at, or `None`.
        taken_off: Names of the variants that are subtracted below the line.
    """

    name: str
    numerator: tuple[str, ...]
    denominator: tuple[str, ...]
    target: float | None = None
    taken_off: tuple[str, ...] = ()


class Quantity(typing.NamedTuple):
    """How the tables show what was measured.

    Args:
        heading: Above the values of the variants.
        ratio_heading: Above the ratios.
        unit: The number that one of the heading's units is worth.
    """

    heading: str
    ratio_heading: str
    unit: float = 1.0


# The first of each is the one that the targets are for.
TIME = {
    "cpu_seconds": Quantity("CPU seconds", "CPU seconds"),
    "wall_seconds": Quantity("wall seconds", "wall seconds"),
}
MEMORY = {
    "peak_bytes": Quantity("peak, MiB", "peak", 2**20),
    "growth_bytes": Quantity("of these by the run, MiB", "by the run", 2**20),
}


def positive_integer(text):
    """Parses a command line argument that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(
            f"expected a positive integer, received {text}"
        )
    return value


def add_arguments(parser, name):
    """Adds the command line arguments that all benchmarks have.

    Args:
        parser: `argparse.ArgumentParser`.
        name: Name of the JSON file.
    """
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the data, the weights and the order within the rounds",
    )
    parser.add_argument(
        "--output",
        default=f"output/benchmarks/{name}",
        help="where to write all samples and results",
    )


def measure_seconds(run):
    """Measures one run.

    CPU seconds are those of the user and of the system, in all threads of the
    process: on a machine with other work they vary less than wall time.

    Args:
        run: Function without arguments that returns its number of steps.

    Returns:
        Dict with `cpu_seconds`, `wall_seconds` and `steps`.
    """
    # The garbage of the run before is none of this one's business.
    gc.collect()
    wall = time.perf_counter()
    cpu = time.process_time()
    steps = run()
    return {
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
        "steps": steps,
    }


def peak_memory():
    """Returns the largest resident size that this process had, in bytes."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # Linux carries `ru_maxrss` over from the process that started this
        # one, and a big parent would hide a small child.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure_memory(run):
    """Measures the memory of one run, in a process that does nothing else.

    Args:
        run: Function without arguments that returns its number of steps.

    Returns:
        Dict with the `peak_bytes` of the process, by how much the run raised
        them (`growth_bytes`), and the number of `steps`.
    """
    before = peak_memory()
    steps = run()
    peak = peak_memory()
    return {
        "peak_bytes": peak,
        "growth_bytes": peak - before,
        "steps": steps,
    }


def run_alone(script, *arguments):
    """Runs a script in a process of its own, and reads what it prints.

    Args:
        script: Its path.
        *arguments: Its command line arguments.

    Returns:
        What the last line of its output is in JSON.
    """
    finished = subprocess.run(
        [sys.executable, script, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(finished.stdout.splitlines()[-1])


def format_options(arguments, *names):
    """Returns some of the parsed arguments as command line arguments."""
    return [
        f"--{name.replace('_', '-')}={getattr(arguments, name)}"
        for name in names
    ]


def alternate(title, variants, rounds, seed):
    """Measures every variant once in each round, in a new order each time.

    What changes on the machine in the course of minutes meets all variants of
    a round alike, and no variant always follows the same other one.

    Args:
        title: What is measured, for the line that shows the progress.
        variants: Dict from the name of a variant to a function without
            arguments that runs it and returns a dict of measured quantities.
        rounds: Number of rounds.
        seed: Integer that the orders are drawn with.

    Returns:
        List of samples in the order of their measurement: dicts with `round`,
        `variant` and the quantities.
    """
    generator = random.Random(seed)
    samples = []
    for number in range(rounds):
        print(f"{title}: round {number + 1} of {rounds}", file=sys.stderr)
        order = list(variants)
        generator.shuffle(order)
        samples += [
            {"round": number, "variant": variant, **variants[variant]()}
            for variant in order
        ]
    return samples


def alternate_seconds(title, runs, rounds, seed):
    """Measures the seconds of every run once in each round.

    Args:
        title: As in `alternate`.
        runs: Dict from the name of a variant to a run, as `measure_seconds`
            takes it.
        rounds: As in `alternate`.
        seed: As in `alternate`.

    Returns:
        List of samples, as `alternate` returns it.
    """
    variants = {
        variant: functools.partial(measure_seconds, run)
        for variant, run in runs.items()
    }
    return alternate(title, variants, rounds, seed)


def select(samples, variant, quantity):
    """Lists what was measured of a variant, in the order of the rounds."""
    return [
        sample[quantity] for sample in samples if sample["variant"] == variant
    ]


def pair(samples, ratio, quantity):
    """Computes a ratio within each round.

    Args:
        samples: As `alternate` returns them.
        ratio: `Ratio`.
        quantity: Name of the measured quantity.

    Returns:
        List of one float for each round.
    """
    above, below, off = (
        np.sum([select(samples, name, quantity) for name in names], axis=0)
        for names in (ratio.numerator, ratio.denominator, ratio.taken_off)
    )
    return (above / (below - off)).tolist()


def summarize(values):
    """Returns the median of some numbers, and how far they spread."""
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "median": float(median),
        "lower_quartile": float(lower),
        "upper_quartile": float(upper),
        "minimum": min(values),
        "maximum": max(values),
    }


def analyze(samples, quantities, ratios):
    """Sums up what `alternate` measured.

    Args:
        samples: As `alternate` returns them.
        quantities: Names of the quantities to sum up.
        ratios: List of `Ratio`.

    Returns:
        Dict with the `samples`, the `summaries` (by variant and quantity) and
        the `ratios` (by name and quantity, with the value of each round).
    """
    variants = dict.fromkeys(sample["variant"] for sample in samples)
    return {
        "samples": samples,
        "summaries": {
            variant: {
                quantity: summarize(select(samples, variant, quantity))
                for quantity in quantities
            }
            for variant in variants
        },
        "ratios": {
            ratio.name: {
                **ratio._asdict(),
                **{
                    quantity: _summarize_ratio(samples, ratio, quantity)
                    for quantity in quantities
                },
            }
            for ratio in ratios
        },
    }


def format_summaries(analysis, labels, quantities):
    """Formats the medians and quartiles of the variants as a table.

    Args:
        analysis: As `analyze` returns it.
        labels: Dict from the name of a variant to the text that stands for
            it, in the order of the lines.
        quantities: Dict from the name of a quantity to its `Quantity`.

    Returns:
        String of several lines.
    """
    rows = [["", *(quantity.heading for quantity in quantities.values())]]
    for variant, label in labels.items():
        summary = analysis["summaries"][variant]
        rows.append(
            [
                label,
                *(
                    _format_summary(summary[name], quantity.unit)
                    for name, quantity in quantities.items()
                ),
            ]
        )
    return format_table(rows)


def format_ratios(analysis, quantities):
    """Formats the medians and quartiles of the ratios as a table.

    Args:
        analysis: As `analyze` returns it.
        quantities: Dict from the name of a quantity to its `Quantity`. The
            first is the one that the target is for.

    Returns:
        String of several lines.
    """
    judged = next(iter(quantities))
    headings = [quantity.ratio_heading for quantity in quantities.values()]
    rows = [["", *headings, "target", "met"]]
    for name, ratio in analysis["ratios"].items():
        target, met = "", ""
        if ratio["target"] is not None:
            target = f"<= {ratio['target']:.2f}"
            met = judge(ratio[judged], ratio["target"])
        cells = [_format_summary(ratio[quantity]) for quantity in quantities]
        rows.append([name, *cells, target, met])
    return format_table(rows)


def judge(summary, target):
    """Says whether a ratio is as small as it should be.

    Args:
        summary: As `summarize` returns it.
        target: The largest median that is aimed at.

    Returns:
        `"yes"`, `"no"`, or `"unclear"` where the median is above the target,
        but the target is between the quartiles.
    """
    if summary["median"] <= target:
        return "yes"
    return "unclear" if summary["lower_quartile"] <= target else "no"


def format_table(rows):
    """Aligns rows of text: the first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(
                zip(row, widths, strict=True)
            )
        ).rstrip()
        for row in rows
    )


def print_analysis(title, analysis, labels, quantities):
    """Prints the tables of the variants and of the ratios.

    Args:
        title: What was measured.
        analysis: As `analyze` returns it.
        labels: As in `format_summaries`. Variants that were not measured are
            left out.
        quantities: As in `format_ratios`.
    """
    labels = {
        variant: label
        for variant, label in labels.items()
        if variant in analysis["summaries"]
    }
    print(f"\n{title}: median [quartiles]\n")
    print(format_summaries(analysis, labels, quantities))
    print()
    print(format_ratios(analysis, quantities))


def describe_command(script, argv):
    """Returns the command line that repeats a run."""
    argv = sys.argv[1:] if argv is None else argv
    return shlex.join(["python", f"benchmarks/{pathlib.Path(script).name}"]) + (
        f" {shlex.join(argv)}" if argv else ""
    )


def describe_environment():
    """Returns the versions and the machine that figures belong to."""
    return {
        "versions": {
            "python": platform.python_version(),
            "keras": keras.__version__,
            "keras_distill": keras_distill.__version__,
            "numpy": np.__version__,
            "tensorflow": tf.__version__,
        },
        "machine": {
            "platform": platform.platform(),
            "processor": _find_processor(),
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "devices": [
                device.name for device in tf.config.list_physical_devices()
            ],
            # More than nearly 0 says that the machine had other work.
            "load_average_before": os.getloadavg()[0],
        },
    }


def write_json(path, results):
    """Writes the results, and says where."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nAll samples are in {path}")


def _summarize_ratio(samples, ratio, quantity):
    values = pair(samples, ratio, quantity)
    return {"values": values, **summarize(values)}


def _format_summary(summary, unit=1.0):
    median, lower, upper = (
        f"{summary[key] / unit:,.3f}"
        for key in ("median", "lower_quartile", "upper_quartile")
    )
    return f"{median} [{lower}, {upper}]"


def _find_processor():
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
