"""Creating a store: killed, resumed, shared by workers, on a full disk."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill
from backends import observe
from backends import wait
from keras_distill import SoftTargetStore
from keras_distill.store import shards
from markers import saved_model

EXAMPLES, PER_SHARD, BATCH = 100, 24, 10

SETUP = """
import os, pathlib, resource, signal, sys, time
import keras
import numpy as np
import tensorflow as tf
import keras_distill

x = np.random.default_rng(0).normal(size=(100, 6)).astype("float32")


def teacher(inputs):
    on_batch()
    return np.concatenate([inputs, inputs[:, ::-1]], axis=-1)


def create(path, **kwargs):
    keras_distill.SoftTargetStore.create(
        path,
        lambda inputs: tf.ensure_shape(
            tf.numpy_function(teacher, [inputs], "float32"), (None, 12)
        ),
        x,
        **{
            "batch_size": 10,
            "examples_per_shard": 24,
            "teacher_id": "function",
            "verbose": 0,
            **kwargs,
        },
    )
"""


once = pytest.mark.backend(
    "tensorflow", reason="the files do not depend on the backend"
)


def run(script, *arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-c", SETUP + textwrap.dedent(script), *arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        **kwargs,
    )


def files_of(folder):
    """Returns the bytes of all files except locks."""
    return {
        path.name: path.read_bytes()
        for path in pathlib.Path(folder).iterdir()
        if not path.name.endswith(".lock")
    }


def inputs(examples=EXAMPLES, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(examples, 6)).astype("float32")


def model(seed=3):
    initializer = keras.initializers.RandomNormal(seed=seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, kernel_initializer=initializer),
        ]
    )


def create(path, x, teacher=None, **kwargs):
    return SoftTargetStore.create(
        path,
        teacher or model(),
        x,
        **{
            "batch_size": BATCH,
            "examples_per_shard": PER_SHARD,
            "teacher_id": None if teacher is None else "teacher",
            "verbose": 0,
            **kwargs,
        },
    )


# Kills every run later than the previous run, until one finishes. A step is a
# batch, or a file that is opened, renamed or removed.
KILLED_AGAIN_AND_AGAIN = """
whole, path, log, stride = sys.argv[1:]
steps, kill_at = 0, 0


def step():
    global steps
    steps += 1
    if steps == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


def on_event(event, arguments):
    if event in ("open", "os.rename", "os.remove") and path in str(arguments):
        step()


on_batch = step
if os.fork() == 0:
    create(whole)
    os._exit(0)
assert os.wait()[1] == 0
sys.addaudithook(on_event)
while True:
    kill_at += int(stride)
    child = os.fork()
    if child == 0:
        create(path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    kept = sorted(os.listdir(path)) if os.path.isdir(path) else []
    with open(log, "a") as file:
        print(status, *kept, file=file)
    if status != signal.SIGKILL:
        sys.exit(status)
"""

UNINTERRUPTED = """
on_batch = lambda: None
create(sys.argv[1])
"""


@once
@pytest.mark.parametrize(
    "stride", [11, pytest.param(1, marks=pytest.mark.slow)]
)
def test_killed_again_and_again(tmp_path, stride):
    """A killed run resumes, and the store has the same bytes."""
    log = tmp_path / "log"
    process = run(
        KILLED_AGAIN_AND_AGAIN,
        *map(str, (tmp_path / "whole", tmp_path / "killed", log, stride)),
    )
    assert process.wait() == 0
    runs = [line.split() for line in log.read_text().splitlines()]
    assert len(runs) > (15 if stride == 1 else 2)
    assert {status for status, *_ in runs[:-1]} == {str(int(signal.SIGKILL))}
    # No complete shard was ever lost.
    complete = 0
    for _, *files in runs:
        now = sum(name.endswith(".npy") for name in files)
        assert now >= complete
        complete = now
    whole = files_of(tmp_path / "whole")
    assert complete == 5
    assert files_of(tmp_path / "killed") == whole
    assert sorted(whole) == [
        "manifest.json",
        *(f"soft_targets-{number:05d}.npy" for number in range(5)),
    ]


SLOW = """
on_batch = lambda: time.sleep(0.4)
create(sys.argv[1])
"""


@once
@pytest.mark.slow
def test_killed_from_outside_while_another_waits(tmp_path):
    path = tmp_path / "store"
    process = run(SLOW, str(path))
    entry = path / "soft_targets-00001.json"
    while not entry.exists():
        assert process.poll() is None
        time.sleep(0.02)
    with pytest.raises(RuntimeError, match="Another process is creating"):
        create(path, inputs())
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with pytest.raises(ValueError, match="not complete"):
        SoftTargetStore(path)
    finished = path / "soft_targets-00000.npy"
    before = finished.stat().st_mtime_ns
    assert run(UNINTERRUPTED, str(path)).wait() == 0
    assert finished.stat().st_mtime_ns == before
    assert run(UNINTERRUPTED, str(tmp_path / "whole")).wait() == 0
    assert files_of(path) == files_of(tmp_path / "whole")


LIMITED = """
on_batch = lambda: None
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
x = np.repeat(x, 2, axis=0)
keras_distill.SoftTargetStore.create(
    sys.argv[1], lambda v: v[:, :5], x, batch_size=10, examples_per_shard=90,
    verbose=0, dtype="float32", teacher_id="function",
)
"""


@once
@pytest.mark.slow
def test_write_fails_within_a_shard(tmp_path):
    """The process may not write files above a size."""
    process = run(LIMITED, str(tmp_path / "store"), stderr=subprocess.PIPE)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert b"OSError: Could not write shard 0 of" in errors
    assert b"File too large" in errors
    assert list(files_of(tmp_path / "store")) == ["manifest.json"]


@once
@pytest.mark.slow
@pytest.mark.skipif(
    os.name != "posix"
    or subprocess.run(
        ["unshare", "-rm", "true"], capture_output=True, check=False
    ).returncode,
    reason="needs `unshare` to mount a small file system",
)
def test_a_full_disk(tmp_path):
    """Complete shards stay valid, and with more space `create` continues."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = tmp_path / "script.py"
    script.write_text(
        SETUP
        + textwrap.dedent(
            """
            on_batch = lambda: None
            x = np.repeat(x, 100, axis=0)


            def fill():
                return keras_distill.SoftTargetStore.create(
                    path, lambda v: v[:, :5], x, batch_size=100,
                    examples_per_shard=1000, verbose=0, dtype="float32",
                    teacher_id="function",
                )


            path = sys.argv[1] + "/store"
            try:
                fill()
                sys.exit("the disk is not full")
            except OSError as error:
                assert "No space left on device" in str(error), error
                assert "stay valid" in str(error), error
            kept = sorted(os.listdir(path))
            assert "soft_targets-00001.npy" in kept, kept
            assert not any(name.endswith(".partial") for name in kept), kept
            times = os.stat(path + "/soft_targets-00001.npy").st_mtime_ns
            assert os.system(f"mount -o remount,size=4m {sys.argv[1]}") == 0
            store = fill()
            assert len(store) == 10000
            np.testing.assert_array_equal(store[:], x[:, :5])
            assert times == os.stat(
                path + "/soft_targets-00001.npy"
            ).st_mtime_ns
            """
        )
    )
    command = (
        f"mount -t tmpfs -o size=128k tmpfs {disk} && "
        f"{sys.executable} {script} {disk}"
    )
    subprocess.run(
        ["unshare", "-rm", "sh", "-c", command],
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


# Several workers.


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_workers_make_one_store(tmp_path, order):
    x = inputs()
    whole = create(tmp_path / "whole", x)
    seen = []
    for worker in order:
        store = create(tmp_path / "parts", x, shard=(worker, 3))
        seen.append(store)
    assert seen[:2] == [None, None]
    assert seen[2].info()["shards"] == 5
    np.testing.assert_array_equal(seen[2][:], whole[:])
    for name, content in files_of(tmp_path / "whole").items():
        if name != "manifest.json":
            assert files_of(tmp_path / "parts")[name] == content


WORKER = """
on_batch = lambda: time.sleep(0.1)
worker, workers = map(int, sys.argv[2:])
store = keras_distill.SoftTargetStore.create(
    sys.argv[1], lambda v: tf.nn.relu(v), x, batch_size=10,
    examples_per_shard=10, shard=(worker, workers), verbose=0,
    teacher_id="function",
)
"""


@once
@pytest.mark.slow
def test_workers_in_several_processes(tmp_path):
    path = str(tmp_path / "store")
    processes = [run(WORKER, path, str(worker), "2") for worker in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    store = SoftTargetStore(path)
    np.testing.assert_allclose(store[:], np.maximum(inputs(), 0), atol=2e-3)


WORKER_WITH_VIEWS = """
on_batch = lambda: time.sleep(0.1)


def add_noise(x, seed):
    return x + tf.random.stateless_normal(x.shape, seed)


create(
    sys.argv[1], shard=(int(sys.argv[2]), 2), examples_per_shard=10, views=2,
    augment=add_noise,
)
"""


@once
@pytest.mark.slow
def test_a_worker_with_views_is_killed(tmp_path):
    """After it runs again, the store has the same bytes."""
    whole = tmp_path / "whole"
    first, second = (
        run(WORKER_WITH_VIEWS, str(whole), str(worker)) for worker in range(2)
    )
    assert (first.wait(), second.wait()) == (0, 0)
    path = tmp_path / "killed"
    first, second = (
        run(WORKER_WITH_VIEWS, str(path), str(worker)) for worker in range(2)
    )
    # A shard of the second view.
    while not (path / "soft_targets-00013.json").exists():
        assert second.poll() is None
        time.sleep(0.02)
    second.send_signal(signal.SIGKILL)
    assert (first.wait(), second.wait()) == (0, -signal.SIGKILL)
    with pytest.raises(ValueError, match="not complete"):
        SoftTargetStore(path)
    assert run(WORKER_WITH_VIEWS, str(path), "1").wait() == 0
    assert SoftTargetStore(path).info()["shards"] == 20
    assert files_of(path) == files_of(whole)


def test_each_example_is_labelled_once(tmp_path):
    """Also if several workers share the work."""
    x = inputs()
    labelled = []
    inspected = 8

    def teacher(inputs):
        return observe(lambda x: labelled.append(len(x)), inputs)

    def count():
        wait()
        return sum(labelled)

    create(tmp_path / "whole", x, teacher)
    # The first examples are labelled twice, to inspect the outputs.
    assert count() == EXAMPLES + inspected
    labelled.clear()
    create(tmp_path / "whole", x, teacher)
    assert count() == inspected
    labelled.clear()
    for worker in range(2):
        create(
            tmp_path / "parts",
            x,
            teacher,
            shard=(worker, 2),
            examples_per_shard=2 * BATCH,
        )
    assert count() == EXAMPLES + 2 * inspected


# Resumed with different arguments or data.


def interrupt(path, x, **kwargs):
    """Creates a store and stops after some shards."""
    batches = tf.data.Dataset.from_tensor_slices(x).batch(BATCH)

    def generate():
        for number, batch in enumerate(batches):
            if number == 6:
                raise KeyboardInterrupt
            yield (batch.numpy(),)

    with pytest.raises((KeyboardInterrupt, tf.errors.OpError)):
        SoftTargetStore.create(
            path,
            model(),
            generate(),
            examples_per_shard=PER_SHARD,
            verbose=0,
            **kwargs,
        )
    assert (path / "soft_targets-00001.json").exists()
    assert not list(path.glob("*.partial"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": 2}, "another `top_k`|another `dtype`"),
        ({"dtype": "float32"}, "another `dtype`: 'float16'"),
        ({"teacher": "other"}, "another `teacher`"),
        ({"examples_per_shard": 20}, "another `examples_per_shard`: 24"),
        ({"shard": (0, 2)}, "another `workers`: 1"),
        ({"x": "changed"}, "examples 10 to 19 differ"),
        ({"x": "dtype"}, "another `inputs`"),
        ({"x": "shorter"}, "it has 40 examples"),
    ],
)
def test_resumed_with_different_arguments_or_data(tmp_path, change, message):
    x = inputs()
    interrupt(tmp_path / "store", x)
    if change.get("teacher"):
        change = {"teacher": model(seed=4)}
    if change.get("x") == "changed":
        x[15] += 1
        change = {}
    elif change.get("x") == "dtype":
        x = x.astype("int32")
        change = {}
    elif change.get("x") == "shorter":
        x = x[:40]
        change = {}
    with pytest.raises(ValueError, match=message):
        create(tmp_path / "store", x, **change)


def test_interrupted_and_resumed(tmp_path):
    x = inputs()
    whole = create(tmp_path / "whole", x)
    interrupt(tmp_path / "store", x)
    store = create(tmp_path / "store", x)
    np.testing.assert_array_equal(store[:], whole[:])
    assert files_of(tmp_path / "store") == files_of(tmp_path / "whole")


def test_resumed_with_a_longer_transfer_set(tmp_path):
    """The last shard of the first run has too few examples."""
    x = inputs(60)
    create(tmp_path / "store", x)
    manifest = tmp_path / "store" / "manifest.json"
    content = shards.read_json(manifest)
    # As if the run was killed before it completed the manifest.
    for number, entry in enumerate(content.pop("shards")):
        shards.write_json(shards.entry_path(tmp_path / "store", number), entry)
    del content["examples"]
    shards.write_json(manifest, content)
    longer = np.concatenate([x, inputs(10, seed=1)])
    with pytest.raises(ValueError, match="not the one that the store"):
        create(tmp_path / "store", longer)
    assert len(create(tmp_path / "store", x)) == 60


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    ("examples", "change", "message"),
    [
        (50, "longer", "examples 50 to 54 differ"),
        # The last shard is full.
        (2 * PER_SHARD, "longer", "it has more examples"),
        (50, "shorter", "it has 30 examples, and had a different number"),
        (50, "different at the end", "examples 40 to 47 differ"),
    ],
)
def test_complete_store_refuses_a_different_transfer_set(
    tmp_path, batched, examples, change, message
):
    x = inputs(examples)
    arguments = {"batch_size": None if batched else 10}

    def prepare(x):
        if not batched:
            return x
        return tf.data.Dataset.from_tensor_slices(x).batch(10)

    create(tmp_path, prepare(x), **arguments)
    before = files_of(tmp_path)
    changed = {
        "longer": np.concatenate([x, x[:5]]),
        "shorter": x[:30],
        "different at the end": np.concatenate([x[:45], x[:5]]),
    }[change]
    with pytest.raises(ValueError, match=message):
        create(tmp_path, prepare(changed), **arguments)
    create(tmp_path, prepare(x), **arguments)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "changed"])
@pytest.mark.parametrize("complete", [False, True])
def test_damaged_manifest_is_found(tmp_path, damage, complete):
    x = inputs()
    shard = (0, 1) if complete else (0, 2)
    create(tmp_path, x, shard=shard)
    for path in tmp_path.glob("*.json"):
        content = path.read_text()
        path.write_text(
            {
                "truncated": content[: len(content) // 2],
                "empty": "",
                "changed": content.replace("0", "1", 1),
            }[damage]
        )
        with pytest.raises(shards.StoreError, match=f"{path.name} is trunc"):
            create(tmp_path, x, shard=shard)
        if complete:
            with pytest.raises(shards.StoreError, match=r"manifest\.json is"):
                SoftTargetStore(tmp_path)
        path.write_text(content)
    create(tmp_path, x, shard=shard)


def test_damage_is_found_when_resumed(tmp_path):
    x = inputs()
    path = tmp_path / "store"
    interrupt(path, x)
    shard = path / "soft_targets-00000.npy"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"soft_targets-00000\.npy"):
        create(path, x)


@pytest.mark.parametrize("kind", [".npy", ".json"])
def test_a_missing_shard_is_labelled_again(tmp_path, kind):
    """An incomplete store needs only the `.json` file to be removed."""
    x = inputs()
    whole, path = tmp_path / "whole", tmp_path / "store"
    create(whole, x)
    interrupt(path, x)
    if kind == ".npy":
        (path / "soft_targets-00000.npy").unlink()
        with pytest.raises(
            shards.StoreError, match=r"first delete only the `\.json` file"
        ):
            create(path, x)
    (path / "soft_targets-00000.json").unlink()
    create(path, x)
    assert files_of(path) == files_of(whole)


def test_each_worker_finds_a_longer_transfer_set(tmp_path):
    """Also the worker that does not write the additional shard."""
    x = inputs(2 * PER_SHARD)
    for worker in range(2):
        create(tmp_path, x, shard=(worker, 2))
    longer = np.concatenate([x, x[:5]])
    for worker in range(2):
        with pytest.raises(ValueError, match="not the one that the store"):
            create(tmp_path, longer, shard=(worker, 2))
        create(tmp_path, x, shard=(worker, 2))


@saved_model
def test_student_of_a_store_exports(tmp_path, data, make_model):
    """A student that was trained on a store is an ordinary model."""
    x, _ = data
    store = SoftTargetStore.create(
        tmp_path / "store", make_model(seed=5), x, verbose=0
    )
    student = make_model(seed=1)
    distiller = keras_distill.Distiller(student=student)
    distiller.compile("adam")
    distiller.fit(store.attach(x), verbose=0)
    distiller.export(tmp_path / "student", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "student")
    np.testing.assert_allclose(
        loaded.serve(x), student.predict(x, verbose=0), rtol=1e-5
    )


INTERRUPTED = """
import os
import signal
import sys
import time

import numpy as np

import keras
import keras_distill


class Inputs(keras.utils.PyDataset):
    num_batches = 500

    def __getitem__(self, index):
        time.sleep(0.02)
        if index == 20 and "interrupt" in sys.argv:
            os.kill(os.getpid(), signal.SIGINT)
        return np.ones((8, 4 + (index == 20)), "float32")


def teacher(x):
    return x @ np.ones((4, 3), "float32")


if "create" in sys.argv:
    keras_distill.SoftTargetStore.create(
        sys.argv[1], teacher, Inputs(), teacher_id="function", verbose=0
    )
keras_distill.predict_logits(teacher, Inputs(), verbose=0)
"""


@pytest.mark.slow
@pytest.mark.backend("tensorflow", reason="only `tf.data` has threads")
@pytest.mark.parametrize("what", ["create", "predict"])
@pytest.mark.parametrize("how", ["error", "interrupt"])
def test_a_process_ends_after_an_error(tmp_path, what, how):
    """No thread of a pipeline waits for a Python function that is gone."""
    process = run(INTERRUPTED, str(tmp_path / "store"), what, how)
    assert process.wait(timeout=120) != 0
