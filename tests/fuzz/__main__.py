"""Attacks the package with random cases, each of which has a seed.

    make fuzz ARGS="--seeds 1000"

    trainings   random models, and arguments of `compile` and `fit`, compared
                with a loop that is written by hand
    stores      damaged files of stores, and edited manifests
    calls       one wrong argument for every public name

It prints the seed of each failure, and the command that repeats it.
"""

import argparse
import collections
import sys
import traceback

import keras

from fuzz import calls
from fuzz import stores
from fuzz import trainings

KINDS = {"trainings": trainings, "stores": stores, "calls": calls}


def attack(kind: str, seeds: range) -> collections.Counter:
    """Runs the cases of a kind, and counts what came of them."""
    outcomes: collections.Counter = collections.Counter()
    bar = keras.utils.Progbar(len(seeds), unit_name="case")
    for number, seed in enumerate(seeds, 1):
        try:
            outcomes[KINDS[kind].run(seed)] += 1
        except Exception:
            outcomes["failed"] += 1
            traceback.print_exc(file=sys.stdout)
            print(
                f"{kind} failed. To repeat it: make fuzz "
                f'ARGS="--kinds {kind} --first {seed} --seeds 1"'
            )
        keras.backend.clear_session(free_memory=False)
        bar.update(number)
    return outcomes


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seeds", type=int, default=100, help="cases of each kind"
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS)
    )
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    results = {}
    for kind in arguments.kinds:
        print(f"{kind}:")
        results[kind] = attack(kind, seeds)
    for kind, outcomes in results.items():
        print(f"\n{kind}: {outcomes.total()} cases")
        for outcome, count in outcomes.most_common():
            print(f"{count:8d}  {outcome}")
    sys.exit(any(outcomes["failed"] for outcomes in results.values()))


if __name__ == "__main__":
    main()
