"""What memory `fit(cache="auto")` takes, next to what it says it takes.

    python benchmarks/cache_memory.py

Each run is a `fit` of one epoch in a process of its own: with the soft targets
in memory, and with the teacher called in each step. The difference of their
peaks is what the soft targets take: in the batches that `predict` joins, as a
whole, and as the tensors that `fit` makes. `fit` estimates it before it labels.
"""

import argparse
import functools
import json

import keras
import numpy as np

import _measure
import _networks
from keras_distill.data.cache import estimate_bytes
from keras_distill.teachers.predictor import TargetPredictor

FEATURES = 16
CACHED, ON_THE_FLY, ESTIMATE = "cached", "on the fly", "estimate"
LABELS = {
    CACHED: "keras_distill, from memory",
    ON_THE_FLY: "keras_distill, on the fly",
    ESTIMATE: "the estimate",
}
RATIOS = [
    _measure.Ratio(
        "from memory / (on the fly + the estimate)",
        (CACHED,),
        (ON_THE_FLY, ESTIMATE),
        1.0,
    )
]


def make_training(arguments):
    """Returns a distiller, its inputs and their labels."""
    keras.utils.set_random_seed(arguments.seed)
    student, teacher = (
        keras.Sequential(
            [keras.Input((FEATURES,)), keras.layers.Dense(arguments.classes)]
        )
        for _ in range(2)
    )
    generator = np.random.default_rng(arguments.seed)
    x = generator.random((arguments.examples, FEATURES), dtype="float32")
    y = generator.integers(arguments.classes, size=arguments.examples)
    return _networks.make_distiller(student, teacher), x, y


def measure_own_memory(arguments):
    """Trains as `arguments.memory_of` says, and looks at this process.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.measure_memory` returns it.
    """
    return _measure.measure_memory(
        _networks.make_fit(
            *make_training(arguments),
            batch_size=arguments.batch_size,
            cache=arguments.memory_of == CACHED,
        )
    )


def estimate(arguments):
    """Returns what `fit` expects, as a sample beside those of processes."""
    distiller, x, _ = make_training(arguments)
    predictor = TargetPredictor(
        distiller._supervision.teacher, distiller._objective
    )
    size = estimate_bytes(x, predictor)
    return {"peak_bytes": size, "growth_bytes": size, "steps": 0}


def make_parser():
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    count = _measure.positive_integer
    parser.add_argument(
        "--rounds", type=count, default=3, help="processes for each variant"
    )
    parser.add_argument(
        "--examples", type=count, default=100_000, help="examples of an epoch"
    )
    parser.add_argument(
        "--classes", type=count, default=1000, help="classes of the student"
    )
    parser.add_argument(
        "--batch-size", type=count, default=256, help="examples in a step"
    )
    parser.add_argument(
        "--memory-of",
        choices=(CACHED, ON_THE_FLY),
        help="only run this variant once and print the peak memory of this "
        "process, as JSON",
    )
    _measure.add_arguments(parser, "cache_memory.json")
    return parser


def main(argv=None):
    """Runs the benchmark.

    Args:
        argv: Command line arguments. Defaults to those of the process.

    Returns:
        Dict of all that was measured, which is also what the JSON holds.
    """
    arguments = make_parser().parse_args(argv)
    if arguments.memory_of:
        results = measure_own_memory(arguments)
        print(json.dumps(results))
        return results
    options = _measure.format_options(
        arguments, "examples", "classes", "batch_size", "seed"
    )
    samples = _measure.alternate(
        "memory",
        {
            variant: functools.partial(
                _measure.run_alone,
                __file__,
                f"--memory-of={variant}",
                *options,
            )
            for variant in (CACHED, ON_THE_FLY)
        }
        | {ESTIMATE: functools.partial(estimate, arguments)},
        arguments.rounds,
        arguments.seed,
    )
    # The growth first: the target is for it.
    quantities = dict(reversed(_measure.MEMORY.items()))
    results = {
        "command": _measure.describe_command(__file__, argv),
        "arguments": vars(arguments),
        "environment": _measure.describe_environment(),
        "memory": _measure.analyze(samples, quantities, RATIOS),
    }
    print(f"\n{results['command']}")
    _measure.print_analysis(
        "Peak memory of a process that trains on {examples:,} examples of "
        "{classes:,} classes, {rounds} rounds".format(**vars(arguments)),
        results["memory"],
        LABELS,
        quantities,
    )
    _measure.write_json(arguments.output, results)
    return results


if __name__ == "__main__":
    main()
