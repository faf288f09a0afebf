"""How labelling and training scale with the number of workers.

Each worker is a process of its own with one thread for TensorFlow, so that two
of them on two cores are what two small machines are, with the loopback
interface between them. Two jobs, each with one worker and with several, take
turns:

    label  `SoftTargetStore.create(shard=(i, n))`, all writing one store
    train  `Distiller.fit` under `tf.distribute.MultiWorkerMirroredStrategy`,
           with the teacher in each step, on batches of the same size in all

Measured is the wall time from when all workers have traced what they run to
when the last one is done; the ratio is that of one worker to that of several,
the speedup. The networks are those of Hinton, Vinyals and Dean (2015).
"""

import argparse
import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

import keras
import tensorflow as tf

import _measure
import _networks
import keras_distill

JOBS = ("label", "train")
_READY = "ready"
_SHARDS = 8


def make_parser():
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    count = _measure.positive_integer
    for name, default, meaning in (
        ("rounds", 5, "runs of each variant"),
        ("workers", 2, "processes, next to one"),
        ("images", 12800, "images of an epoch"),
        ("batch-size", 128, "images of a batch, that of all workers together"),
        ("teacher-units", 1200, "units in a hidden layer of the teacher"),
        ("student-units", 800, "units in a hidden layer of the student"),
    ):
        parser.add_argument(
            f"--{name}",
            type=count,
            default=default,
            help=f"{meaning} (default: %(default)s)",
        )
    # What a worker is started with.
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--index", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    _measure.add_arguments(parser, "machines.json")
    return parser


def work(arguments):
    """Does the part of one worker.

    Returns:
        The number of its steps.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # The same weights in all of them.
    keras.utils.set_random_seed(arguments.seed)
    job = {"label": _label, "train": _train}[arguments.job]
    steps = job(arguments, _wait_for_the_others)
    print(json.dumps({"steps": steps}), flush=True)


def _wait_for_the_others():
    print(_READY, flush=True)
    sys.stdin.readline()


def _label(arguments, wait):
    data = _networks.make_data(arguments.images, arguments.seed)
    teacher = _networks.make_network(arguments.teacher_units)

    def label(name, images, shard):
        keras_distill.SoftTargetStore.create(
            os.path.join(arguments.folder, name),
            teacher,
            tf.data.Dataset.from_tensor_slices(images).batch(
                arguments.batch_size
            ),
            shard=shard,
            # As many for each worker, and few: the disk is waited for.
            examples_per_shard=max(
                arguments.batch_size, arguments.images // _SHARDS
            ),
            verbose=0,
        )

    label(f"warm-up-{arguments.index}", data.x[: arguments.batch_size], (0, 1))
    wait()
    label("store", data.x, (arguments.index, arguments.workers))
    return _count_steps(arguments)


def _train(arguments, wait):
    scope = contextlib.nullcontext()
    if arguments.workers > 1:
        scope = tf.distribute.MultiWorkerMirroredStrategy().scope()
    with scope:
        distiller = _networks.make_distiller(
            _networks.make_network(arguments.student_units),
            _networks.make_network(arguments.teacher_units),
        )
    distiller.fit(
        *_networks.make_data(arguments.images, arguments.seed),
        batch_size=arguments.batch_size,
        # The first of them traces.
        epochs=2,
        cache=False,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: epoch and wait()
            )
        ],
    )
    return _count_steps(arguments)


def _count_steps(arguments):
    return -(-arguments.images // arguments.batch_size)


def run_workers(job, workers, arguments):
    """Lets some workers do a job, and measures how long they take.

    Args:
        job: One of `JOBS`.
        workers: Their number.
        arguments: The parsed command line.

    Returns:
        Dict with `wall_seconds` and `steps`.
    """
    ports = _find_ports(workers)
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            subprocess.Popen(
                [
                    *(sys.executable, __file__, "--job", job),
                    *("--index", str(index), "--folder", folder),
                    *("--workers", str(workers)),
                    *_measure.format_options(
                        arguments,
                        "images",
                        "batch_size",
                        "teacher_units",
                        "student_units",
                        "seed",
                    ),
                ],
                env={**os.environ, **_describe_cluster(ports, index)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for index in range(workers)
        ]
        try:
            for process in processes:
                _read_until(process, _READY)
            begin = time.perf_counter()
            for process in processes:
                process.stdin.write("\n")
                process.stdin.flush()
            steps = [
                json.loads(_read_until(process, "{"))["steps"]
                for process in processes
            ]
            wall_seconds = time.perf_counter() - begin
        finally:
            for process in processes:
                process.kill()
                process.communicate()
    return {"wall_seconds": wall_seconds, "steps": steps[0]}


def _read_until(process, beginning):
    for line in process.stdout:
        if line.startswith(beginning):
            return line
    raise RuntimeError(f"A worker ended: {process.wait()}")


def _find_ports(count):
    """Returns ports that are free."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _describe_cluster(ports, index):
    """Returns what tells TensorFlow of the other workers."""
    if len(ports) == 1:
        return {}
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def measure(arguments):
    """Lets all jobs take turns, with one worker and with several.

    Args:
        arguments: The parsed command line.

    Returns:
        Dict as `_measure.analyze` returns it.
    """
    variants = {
        _name(job, workers): functools.partial(
            run_workers, job, workers, arguments
        )
        for job in JOBS
        for workers in (1, arguments.workers)
    }
    samples = _measure.alternate(
        "time", variants, arguments.rounds, arguments.seed
    )
    ratios = [
        _measure.Ratio(
            f"{job}: speedup with {arguments.workers}",
            (_name(job, 1),),
            (_name(job, arguments.workers),),
        )
        for job in JOBS
    ]
    return _measure.analyze(samples, ["wall_seconds"], ratios)


def _name(job, workers):
    return f"{job}, {workers} worker{'s' * (workers > 1)}"


def main(argv=None):
    """Runs the benchmark, or the part of one worker.

    Args:
        argv: Command line arguments. Defaults to those of the process.

    Returns:
        Dict of all that was measured, which is also what the JSON holds.
    """
    arguments = make_parser().parse_args(argv)
    if arguments.job:
        return work(arguments)
    results = {
        "command": _measure.describe_command(__file__, argv),
        "arguments": vars(arguments),
        "environment": _measure.describe_environment(),
        "time": measure(arguments),
    }
    print(f"\n{results['command']}")
    _measure.print_analysis(
        "Time of {images} images in batches of {batch_size}, {rounds} "
        "rounds".format(**vars(arguments)),
        results["time"],
        {variant: variant for variant in results["time"]["summaries"]},
        {"wall_seconds": _measure.TIME["wall_seconds"]},
    )
    _measure.write_json(arguments.output, results)
    return results


if __name__ == "__main__":
    main()
