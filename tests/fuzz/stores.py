"""Random damage to the files of stores, and edited manifests.

A store that was changed serves the same soft targets, or refuses with an error
of its own. Another error, other soft targets, a hang, or much memory is a
failure.
"""

import contextlib
import functools
import json
import os
import pathlib
import resource
import shutil
import signal
import tempfile

import keras
import numpy as np

from fuzz import errors
from keras_distill import Ensemble
from keras_distill import SoftTargetStore
from keras_distill.store import shards

X = np.random.default_rng(0).normal(size=(23, 6)).astype("float32")
# It is removed when the process ends.
_FOLDER = tempfile.TemporaryDirectory(prefix="keras_distill_fuzz_")
_SECONDS = 20
# A manifest that makes a process allocate more than this is a failure.
_BYTES = 2**29

_OPTIONS = {
    "float16": {},
    "float32": {"dtype": "float32", "examples_per_shard": 5},
    "top_k": {"top_k": 2, "temperatures": (1.0, 4.0)},
    "views": {"views": 2, "augment": lambda x, seed: x * 2.0},
    "ensemble": {"temperatures": (2.0,)},
}
_VALUES = (
    *(None, True, False, 0, -1, 1, 2, 7, 10**15, 2**63, 10**30, 0.5, -0.5),
    *(float("nan"), float("inf"), "", "x", "../../etc/passwd", "float64"),
    *([], [[]], [None], [-1], [2**62], {}, {"a": 1}, "\0", "object", "|O"),
)


def _make_model(seed):
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(
                5,
                kernel_initializer=keras.initializers.RandomNormal(seed=seed),
            ),
        ]
    )


def _create(folder, kind, **kwargs):
    teacher = _make_model(1)
    if kind == "ensemble":
        teacher = Ensemble([teacher, _make_model(2)])
    options = {"batch_size": 4, "examples_per_shard": 8, **_OPTIONS[kind]}
    return SoftTargetStore.create(
        folder, teacher, X, verbose=0, **options, **kwargs
    )


@functools.cache
def _original(kind, is_complete):
    """Returns the folder of an undamaged store, and its soft targets."""
    folder = pathlib.Path(_FOLDER.name) / f"{kind}-{is_complete}"
    targets = _read(_create(folder / "complete", kind))
    if is_complete:
        return folder / "complete", targets
    _create(folder / "half", kind, shard=(0, 2))
    return folder / "half", targets


def _complete(folder, kind, is_complete):
    """Creates the rest of a store, of which one of two workers was done."""
    if is_complete:
        return _create(folder, kind)
    # The first worker has to repeat a shard without an entry.
    return _create(folder, kind, shard=(1, 2)) or _create(
        folder, kind, shard=(0, 2)
    )


def _read(store):
    return [np.asarray(array) for array in keras.tree.flatten(store[:])]


# ---- Damage


def _flip_bits(rng, folder):
    path = _choose_file(rng, folder)
    content = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 4)):
        position = rng.integers(len(content))
        content[position] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def _cut(rng, folder):
    path = _choose_file(rng, folder)
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(len(content))])


def _append(rng, folder):
    path = _choose_file(rng, folder)
    path.write_bytes(path.read_bytes() + rng.bytes(rng.integers(1, 100)))


def _overwrite(rng, folder):
    path = _choose_file(rng, folder)
    content = bytearray(path.read_bytes())
    start = int(rng.integers(len(content)))
    block = bytes(64) if rng.random() < 0.5 else rng.bytes(64)
    content[start : start + 64] = block[: len(content) - start]
    path.write_bytes(content)


def _remove(rng, folder):
    _choose_file(rng, folder).unlink()


def _swap(rng, folder):
    first, second = _choose_file(rng, folder), _choose_file(rng, folder)
    contents = first.read_bytes(), second.read_bytes()
    second.write_bytes(contents[0])
    first.write_bytes(contents[1])


def _copy_beside(rng, folder):
    path = _choose_file(rng, folder)
    name = [f"{path.name}.bak", f"{path.stem} (1){path.suffix}", "notes.txt"]
    shutil.copy(path, folder / name[rng.integers(3)])


def _replace_by_special(rng, folder):
    path = _choose_file(rng, folder)
    path.unlink()
    kind = rng.integers(5)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to("/dev/zero")
    elif kind == 3:
        path.symlink_to(folder / "missing")
    else:
        path.write_bytes(rng.bytes(rng.integers(0, 200)))


def _leave_partial(rng, folder):
    """Leaves what a kill leaves."""
    names = ["soft_targets-00001.partial", ".manifest.json.partial"]
    path = folder / names[rng.integers(2)]
    path.write_bytes(rng.bytes(rng.integers(0, 200)))


def _edit_json(rng, folder):
    """Changes a value, with the right digest or with the old one."""
    path = _choose_file(rng, folder, "*.json")
    content = json.loads(path.read_text())
    paths = [path for path, _ in keras.tree.flatten_with_path(content)]
    paths += [path[:depth] for path in paths for depth in range(1, len(path))]
    place = paths[rng.integers(len(paths))]
    parent = content
    for key in place[:-1]:
        parent = parent[key]
    action = rng.integers(4)
    if action == 0 and isinstance(parent, dict):
        del parent[place[-1]]
    elif action == 1 and isinstance(parent, list):
        parent.append(parent[place[-1]])
    else:
        parent[place[-1]] = _VALUES[rng.integers(len(_VALUES))]
    if rng.random() < 0.8:
        content.pop("digest_of_this_file", None)
        shards.write_json(path, content)
        return "forged"
    path.write_text(json.dumps(content))
    return None


_DAMAGES = (
    *(_flip_bits, _cut, _append, _overwrite, _remove, _swap, _copy_beside),
    *(_replace_by_special, _leave_partial, _edit_json, _edit_json, _edit_json),
)


def _choose_file(rng, folder, pattern="*"):
    files = sorted(
        path
        for path in folder.glob(pattern)
        if path.is_file()
        and path.stat().st_size
        # Empty files that only processes lock.
        and path.suffix != ".lock"
    )
    return files[rng.integers(len(files))]


@contextlib.contextmanager
def _limits():
    """Makes a hang or a large allocation an error."""

    def stop(number, frame):
        raise AssertionError(f"It took more than {_SECONDS} seconds.")

    handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if used * 1024 > _BYTES:
        raise AssertionError(f"It took {used / 1024:.0f} MiB.")


def run(seed: int) -> str:
    """Damages a store, opens it or completes it, and checks the result."""
    rng = np.random.default_rng(seed)
    kind = list(_OPTIONS)[rng.integers(len(_OPTIONS))]
    is_complete = bool(rng.random() < 0.7)
    original, expected = _original(kind, is_complete)
    damage = _DAMAGES[rng.integers(len(_DAMAGES))]
    opens = is_complete and rng.random() < 0.6
    with tempfile.TemporaryDirectory() as temporary, _limits():
        folder = pathlib.Path(temporary) / "store"
        shutil.copytree(original, folder)
        forged = damage(rng, folder) == "forged"
        try:
            if opens:
                received = _read(SoftTargetStore(folder))
            else:
                received = _read(_complete(folder, kind, is_complete))
        except ValueError as error:
            if not errors.is_ours(error):
                raise
            return "refused"
    if forged:
        # Somebody who knows the format can describe other soft targets.
        return "served what the forged manifest describes"
    for ours, theirs in zip(received, expected, strict=True):
        np.testing.assert_array_equal(
            ours, theirs, err_msg=f"{damage.__name__}, {kind}"
        )
    return "served the same"
