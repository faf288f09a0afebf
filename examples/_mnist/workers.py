"""Many trainings, several at a time, each in a process of its own."""

import concurrent.futures
import multiprocessing
import sys
import threading

import keras
import tensorflow as tf

from _mnist import runs as run_module

# Where a worker process tells how far it is.
_messages = None


def train_all(runs, root, workers):
    """Trains all of them, teachers first, and tells how far it is.

    Args:
        runs: List of `Run`s. The teachers of others need not be among them.
        root: Folder of all runs. What is finished there is not done again.
        workers: Number of processes. They take a thread each, as two small
            networks train faster on two cores than one after the other. A
            single one is this process, with as many threads as there are.
    """
    every = _add_teachers(runs)
    waiting = [run for run in every if not run_module.is_finished(run, root)]
    if not waiting:
        return
    print(
        f"{len(waiting)} networks to train, {len(every) - len(waiting)} are "
        "trained.",
        flush=True,
    )
    progress = _Progress(waiting)
    if workers == 1:
        for run in waiting:
            run_module.train(run, root, _bind(progress.update, run))
            progress.finish(run)
    else:
        _train_in_processes(waiting, root, workers, progress)


def _add_teachers(runs):
    """Returns all runs once, each after its teacher; large ones first."""
    everything = dict.fromkeys(
        each for run in runs for each in (run.teacher, run) if each is not None
    )
    return sorted(
        everything, key=lambda run: (run.teacher is not None, -run.work)
    )


def _train_in_processes(waiting, root, workers, progress):
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    listener = threading.Thread(
        target=_listen, args=(messages, progress), daemon=True
    )
    listener.start()
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, _start, (messages,)
    )
    try:
        _schedule(waiting, root, pool, progress)
    except BaseException:
        # Whoever interrupts does not want to wait for what is running.
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        messages.put(None)
        listener.join()
    pool.shutdown()


def _schedule(waiting, root, pool, progress):
    """Gives each run to the pool as soon as its teacher is there."""
    waiting = list(waiting)
    running = {}
    while waiting or running:
        ready = [
            run
            for run in waiting
            if run.teacher is None or run_module.is_finished(run.teacher, root)
        ]
        for run in ready:
            waiting.remove(run)
            running[pool.submit(_train, run, root)] = run
        done, _ = concurrent.futures.wait(
            running, return_when=concurrent.futures.FIRST_COMPLETED
        )
        for future in done:
            future.result()
            progress.finish(running.pop(future))


def _start(messages):
    """Prepares a worker process."""
    global _messages
    _messages = messages
    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _train(run, root):
    run_module.train(run, root, lambda share: _messages.put((run, share)))


def _listen(messages, progress):
    """Passes on what the workers tell, until a `None` comes."""
    while (message := messages.get()) is not None:
        progress.update(*message)


def _bind(update, run):
    return lambda share: update(run, share)


class _Progress:
    """A progress bar for many trainings; a line for each in a log file.

    Args:
        runs: List of `Run`s.
    """

    def __init__(self, runs):
        self._total = sum(run.work for run in runs)
        self._count = len(runs)
        self._shares = {}
        self._finished = []
        self._lock = threading.Lock()
        self._bar = (
            keras.utils.Progbar(
                100, unit_name="percent", stateful_metrics=["trained"]
            )
            if sys.stdout.isatty()
            else None
        )
        self._shown = 0

    def update(self, run, share):
        """Takes note of the share of a run that is done."""
        with self._lock:
            self._shares[run] = max(share, self._shares.get(run, 0.0))
            self._show()

    def finish(self, run):
        """Takes note of a run that is finished."""
        with self._lock:
            self._shares[run] = 1.0
            self._finished.append(run)
            if self._bar is None:
                print(
                    f"{len(self._finished):4} of {self._count}: {run}",
                    flush=True,
                )
            self._show()

    def _show(self):
        if self._bar is None:
            return
        done = sum(share * run.work for run, share in self._shares.items())
        percent = int(100 * done / self._total + 1e-6)
        # The bar ends its line at 100, so it may only come there once.
        if len(self._finished) < self._count:
            percent = min(percent, 99)
        if percent > self._shown:
            self._shown = percent
            self._bar.update(percent, [("trained", len(self._finished))])
