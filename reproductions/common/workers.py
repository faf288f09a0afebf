"""Many tasks, several at a time, each in a process of its own."""

import concurrent.futures
import functools
import multiprocessing
import os
import sys
import threading
import time

import keras
import tensorflow as tf

# Where a worker process tells how far it is.
_messages = None


def do_all(tasks, root, workers):
    """Does all tasks, and those they need, and tells how far it is.

    Args:
        tasks: List of `tasks.Task`s.
        root: Folder of all tasks. What is finished there is not done again.
        workers: Number of processes. They take a thread each, as two small
            networks train faster on two cores than one after the other. A
            single one is this process, with as many threads as there are.
    """
    every = _add_needed(tasks)
    waiting = [each for each in every if not each.is_finished(root)]
    if not waiting:
        return
    print(
        f"{len(waiting)} tasks, {len(every) - len(waiting)} are done.",
        flush=True,
    )
    start = time.monotonic()
    progress = _Progress(waiting)
    if workers == 1:
        for each in waiting:
            each.run(root, functools.partial(progress.update, each))
            progress.finish(each)
    else:
        _do_in_processes(waiting, root, workers, progress)
    print(f"They took {(time.monotonic() - start) / 60:.1f} minutes.")


def measure_time(tasks, root):
    """Returns how many tasks there are, with those they need, and how long.

    Args:
        tasks: List of `tasks.Task`s.
        root: Folder of all tasks.

    Returns:
        Dict of the number of tasks and the sum of the minutes that each took,
        whatever was done beside it: `None` where that of one is not known.
    """
    seconds = [each.load_seconds(root) for each in _add_needed(tasks)]
    known = None not in seconds
    minutes = round(sum(seconds) / 60, 1) if known else None
    return {"tasks": len(seconds), "minutes": minutes}


def _add_needed(tasks):
    """Returns all tasks once, after what they need, large ones first."""
    levels = {}

    def add(task):
        if task not in levels:
            levels[task] = 1 + max(map(add, task.needs), default=0)
        return levels[task]

    for each in tasks:
        add(each)
    return sorted(levels, key=lambda each: (levels[each], -each.work))


def _do_in_processes(waiting, root, workers, progress):
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
        # A worker that was killed may have left the queue locked.
        listener.join(timeout=5)
        messages.cancel_join_thread()
    pool.shutdown()


def _schedule(waiting, root, pool, progress):
    """Gives each task to the pool as soon as what it needs is there."""
    waiting = list(waiting)
    running = {}
    while waiting or running:
        ready = [
            each
            for each in waiting
            if all(needed.is_finished(root) for needed in each.needs)
        ]
        if not ready and not running:
            raise RuntimeError(f"What these need is gone: {waiting}")
        for each in ready:
            waiting.remove(each)
            running[pool.submit(_run, each, root)] = each
        done, _ = concurrent.futures.wait(
            running, return_when=concurrent.futures.FIRST_COMPLETED
        )
        for future in done:
            task = running.pop(future)
            error = future.exception()
            if error is not None:
                error.add_note(f"In {task}: {task.find_folder(root)}")
                raise error
            progress.finish(task)


def _start(messages):
    """Prepares a worker process."""
    global _messages
    _messages = messages
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _end_with_parent():
    """Ends a worker whose parent was killed: another may do its work."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _run(task, root):
    task.run(root, lambda share: _messages.put((task, share)))


def _listen(messages, progress):
    """Passes on what the workers tell, until a `None` comes."""
    while (message := messages.get()) is not None:
        progress.update(*message)


class _Progress:
    """A progress bar for many tasks; a line for each in a log file.

    Args:
        tasks: List of all of them.
    """

    def __init__(self, tasks):
        self._total = sum(each.work for each in tasks)
        self._count = len(tasks)
        self._shares = {}
        self._finished = []
        self._lock = threading.Lock()
        self._bar = (
            keras.utils.Progbar(
                100, unit_name="percent", stateful_metrics=["done"]
            )
            if sys.stdout.isatty()
            else None
        )
        self._shown = 0

    def update(self, task, share):
        """Takes note of the share of a task that is done."""
        with self._lock:
            self._shares[task] = max(share, self._shares.get(task, 0.0))
            self._show()

    def finish(self, task):
        """Takes note of a task that is finished."""
        with self._lock:
            self._shares[task] = 1.0
            self._finished.append(task)
            if self._bar is None:
                print(
                    f"{len(self._finished):4} of {self._count}: {task}",
                    flush=True,
                )
            self._show()

    def _show(self):
        if self._bar is None:
            return
        done = sum(share * each.work for each, share in self._shares.items())
        percent = int(100 * done / self._total + 1e-6)
        # The bar ends its line at 100, so it may only come there once.
        if len(self._finished) < self._count:
            percent = min(percent, 99)
        if percent > self._shown:
            self._shown = percent
            self._bar.update(percent, [("done", len(self._finished))])
