r"""Distills on several machines with TensorFlow.

    python examples/multi_worker.py

This command trains a teacher on scikit-learn's digits. Then it starts two
worker processes on this machine, which distill the teacher together.

On a cluster, start the same script on each machine with the environment
variable TF_CONFIG, which lists all workers and contains the index of this one.
With TF_CONFIG set, the script starts no processes. It distills the teacher in
`teacher.keras` in `--folder`. Run the script once without TF_CONFIG to create
this file.

    TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
                "task": {"type": "worker", "index": 0}}' \
        python examples/multi_worker.py --folder /shared/digits

If a worker dies, the training stops. Start all workers again, and they continue
after the last complete epoch. All machines need access to the folder.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import sklearn.datasets
import tensorflow as tf

import keras_distill

WORKERS = 2


def main():
    """Distills as one of the workers, or starts them."""
    arguments = parse_arguments()
    if "TF_CONFIG" in os.environ:
        distill(arguments)
        return
    teacher = arguments.folder / "teacher.keras"
    if not teacher.exists():
        print("The teacher:")
        train_teacher(teacher)
    sys.exit(start_workers())


def parse_arguments():
    """Returns the command-line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--epochs", type=int, default=10, help="default: %(default)s"
    )
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        default=pathlib.Path("output/multi_worker"),
        help="of teacher, backup and student (default: %(default)s)",
    )
    return parser.parse_args()


def load_digits():
    """Returns what is trained on and what is tested on."""
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    return (x[:1280], y[:1280]), (x[1280:], y[1280:])


def make_model(units):
    """Returns a network that ends in logits."""
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def make_loss():
    """Returns the loss of the labels."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def train_teacher(path):
    """Trains a teacher in this process alone, and saves it."""
    keras.utils.set_random_seed(0)
    teacher = make_model(512)
    teacher.compile("adam", loss=make_loss(), metrics=["accuracy"])
    train_set, test_set = load_digits()
    teacher.fit(*train_set, epochs=20, validation_data=test_set, verbose=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    teacher.save(path)


def start_workers():
    """Runs this script once for each worker; returns whether one failed."""
    addresses = [f"127.0.0.1:{port}" for port in find_free_ports(WORKERS)]
    with contextlib.ExitStack() as stack:
        workers = []
        for index in range(WORKERS):
            config = {
                "cluster": {"worker": addresses},
                "task": {"type": "worker", "index": index},
            }
            worker = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, *sys.argv],
                    env={**os.environ, "TF_CONFIG": json.dumps(config)},
                )
            )
            # One that waits for another that is gone would wait for long.
            stack.callback(worker.kill)
            workers.append(worker)
        states = [worker.poll() for worker in workers]
        while None in states and not any(states):
            time.sleep(0.2)
            states = [worker.poll() for worker in workers]
        return any(states)


def find_free_ports(count):
    """Returns ports of this machine that nobody listens to."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def distill(arguments):
    """Distills the teacher, together with all other workers."""
    # First of all: it connects the workers.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    is_chief = strategy.cluster_resolver.task_id == 0
    train_set, test_set = load_digits()
    keras.utils.set_random_seed(1)
    with strategy.scope():
        student = make_model(16)
        distiller = keras_distill.Distiller(
            student=student,
            teacher=keras.models.load_model(arguments.folder / "teacher.keras"),
        )
        distiller.compile(
            keras.optimizers.Adam(3e-3),
            loss=make_loss(),
            distillation_loss=keras_distill.losses.SoftTargetCrossentropy(4.0),
            alpha=0.9,
            metrics=["accuracy"],
        )
    if is_chief:
        print("The student, by all workers:")
    with tempfile.TemporaryDirectory() as folder:
        # The chief writes for all. The others read what it has written before.
        backup = arguments.folder / "backup"
        if not is_chief:
            own = pathlib.Path(folder, "backup")
            if backup.exists():
                shutil.copytree(backup, own)
            backup = own
        distiller.fit(
            *train_set,
            # Of all workers together.
            batch_size=64,
            epochs=arguments.epochs,
            validation_data=test_set,
            callbacks=[keras.callbacks.BackupAndRestore(backup)],
            verbose=2 if is_chief else 0,
        )
    if is_chief:
        student.save(arguments.folder / "student.keras")


if __name__ == "__main__":
    main()
