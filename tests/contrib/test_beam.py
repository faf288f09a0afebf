"""Apache Beam writes the same store."""

import os
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_distill

beam = pytest.importorskip("apache_beam")

from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402
from apache_beam.testing.util import assert_that  # noqa: E402
from apache_beam.testing.util import equal_to  # noqa: E402
from apache_beam.transforms.periodicsequence import PeriodicImpulse  # noqa: E402

from keras_distill.contrib.beam import WriteToSoftTargetStore  # noqa: E402

# Several processes, as on a cluster.
WORKERS = {
    "runner": "FnApiRunner",
    "direct_running_mode": "multi_processing",
    "direct_num_workers": 2,
}
ALONE = {"runner": "FnApiRunner"}


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(103, 6)).astype("float32")


def make_teacher(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(5),
        ]
    )


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "teacher.keras"
    make_teacher().save(path)
    return path


def create(*args, **kwargs):
    keras_distill.SoftTargetStore.create(*args, **kwargs, verbose=0)


def write(examples, *args, options=ALONE, **kwargs):
    with beam.Pipeline(options=PipelineOptions(**options)) as pipeline:
        (
            pipeline
            | beam.Create(list(examples))
            | beam.Reshuffle()
            | WriteToSoftTargetStore(*args, **kwargs)
        )


def read_files(folder):
    return {
        path.name: path.read_bytes()
        for path in pathlib.Path(folder).iterdir()
        if not path.name.startswith(".")
    }


@pytest.mark.parametrize(
    "how",
    [
        {"dtype": "float32", "batch_size": 16, "examples_per_shard": 40},
        {"top_k": 2, "temperatures": (1.0, 3.0), "batch_size": 10},
    ],
    ids=["dense", "top-k"],
)
def test_files_equal_those_of_create(x, saved, tmp_path, how):
    create(tmp_path / "local", keras.saving.load_model(saved), x, **how)
    write(enumerate(x), tmp_path / "beam", saved, **how)
    assert read_files(tmp_path / "beam") == read_files(tmp_path / "local")


@pytest.mark.slow
def test_processes_share_the_work(x, tmp_path):
    def load():
        # Notes which processes have loaded a teacher.
        (tmp_path / f"loaded-{os.getpid()}").touch()
        return make_teacher()

    how = {"batch_size": 4, "examples_per_shard": 10}
    create(tmp_path / "local", make_teacher(), x, **how)
    write(enumerate(x), tmp_path / "beam", load, options=WORKERS, **how)
    assert read_files(tmp_path / "beam") == read_files(tmp_path / "local")
    loaded = {path.name for path in tmp_path.glob("loaded-*")}
    assert len(loaded) == 2
    assert f"loaded-{os.getpid()}" not in loaded


def test_several_inputs_and_outputs(x, tmp_path):
    inputs = {"left": x[:, :2], "right": x[:, 2:]}

    def make():
        keras.utils.set_random_seed(0)
        left, right = (
            keras.Input((2,), name="left"),
            keras.Input((4,), name="right"),
        )
        both = keras.layers.Concatenate()([left, right])
        return keras.Model(
            {"left": left, "right": right},
            {
                "color": keras.layers.Dense(3)(both),
                "shape": keras.layers.Dense(5)(left),
            },
        )

    how = {"batch_size": 16}
    create(tmp_path / "local", make(), inputs, **how)
    examples = [
        (number, {name: array[number] for name, array in inputs.items()})
        for number in range(len(x))
    ]
    write(examples, tmp_path / "beam", make, **how)
    assert read_files(tmp_path / "beam") == read_files(tmp_path / "local")


def test_ensemble(x, tmp_path):
    def make():
        return [make_teacher(0), make_teacher(1)]

    how = {"batch_size": 16, "temperatures": (4.0,)}
    create(tmp_path / "local", make(), x, **how)
    write(enumerate(x), tmp_path / "beam", make, **how)
    assert read_files(tmp_path / "beam") == read_files(tmp_path / "local")


def test_result_is_the_path_of_a_store(x, saved, tmp_path):
    with beam.Pipeline(options=PipelineOptions(**ALONE)) as pipeline:
        path = (
            pipeline
            | beam.Create(list(enumerate(x)))
            | WriteToSoftTargetStore(tmp_path / "store", saved)
        )
        assert_that(path, equal_to([str(tmp_path / "store")]))
    distiller = keras_distill.Distiller(student=make_teacher(1))
    distiller.compile("adam")
    store = keras_distill.SoftTargetStore(tmp_path / "store")
    losses = distiller.fit(
        store.attach(x, batch_size=32, teacher=keras.saving.load_model(saved)),
        epochs=3,
        verbose=0,
    ).history["loss"]
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[:20] + x[21:], "0 examples of number 20"),
        (lambda x: [*x, (7, x[7][1])], "2 examples of number 7"),
        (lambda x: x[:16] + x[32:], "0 examples instead of 16 .* 16 to 31"),
        (lambda x: x[:10] + x[16:], "10 examples instead of 16 .* 0 to 15"),
        (lambda x: [], "at least one example"),
        (lambda x: [row for _, row in x], "a position from 0"),
        (
            lambda x: [*x[:-1], (x[-1][0], x[-1][1] * 1e30)],
            "the logits of example 102",
        ),
    ],
)
def test_bad_examples_raise(x, saved, tmp_path, spoil, message):
    how = {"batch_size": 16, "examples_per_shard": 16}
    with pytest.raises(Exception, match=message):
        write(spoil(list(enumerate(x))), tmp_path / "store", saved, **how)
    assert not (tmp_path / "store" / "manifest.json").exists()


@pytest.mark.parametrize("missing", [(31,), tuple(range(16, 32))])
def test_missing_numbers_within_a_shard(x, saved, tmp_path, missing):
    """The end of a batch, or a whole batch."""
    examples = [(n, row) for n, row in enumerate(x) if n not in missing]
    with pytest.raises(Exception, match=f"no example of number {missing[0]}"):
        write(examples, tmp_path / "store", saved, batch_size=16)
    assert not (tmp_path / "store" / "manifest.json").exists()


def test_float64_examples(x, saved, tmp_path):
    x = x.astype("float64")
    write(enumerate(x), tmp_path / "beam", saved, batch_size=16)
    create(tmp_path / "local", make_teacher(), x, batch_size=16)
    assert read_files(tmp_path / "beam") == read_files(tmp_path / "local")
    store = keras_distill.SoftTargetStore(tmp_path / "beam")
    assert sum(1 for _ in store.attach(x, batch_size=32)) == 4


def test_a_failed_pipeline_can_be_run_again(x, saved, tmp_path):
    how = {"batch_size": 16, "examples_per_shard": 16}
    examples = list(enumerate(x))
    with pytest.raises(Exception, match="0 examples instead of 16"):
        write(examples[:16] + examples[32:], tmp_path / "beam", saved, **how)
    assert read_files(tmp_path / "beam")
    write(examples, tmp_path / "beam", saved, **how)
    create(tmp_path / "local", make_teacher(), x, **how)
    assert read_files(tmp_path / "beam") == read_files(tmp_path / "local")


def test_batches_of_different_shapes_raise(x, saved, tmp_path):
    examples = [(n, row if n < 32 else row[:3]) for n, row in enumerate(x)]

    def load():
        return lambda x: keras.ops.tile(keras.ops.sum(x, 1)[:, None], (1, 5))

    with pytest.raises(Exception, match="Expected the same `inputs`"):
        write(
            examples,
            tmp_path / "store",
            load,
            batch_size=16,
            teacher_id="function",
        )


@pytest.mark.slow
def test_workers_with_different_teachers_raise(x, tmp_path):
    def load():
        # As if the file of the teacher changed between two processes.
        return make_teacher(os.getpid())

    with pytest.raises(Exception, match="Expected the same `teacher`"):
        write(
            enumerate(x),
            tmp_path / "store",
            load,
            options=WORKERS,
            batch_size=4,
        )
    assert not (tmp_path / "store" / "manifest.json").exists()


def test_an_existing_store_stays_unchanged(x, saved, tmp_path):
    create(tmp_path / "store", make_teacher(), x[:5])
    before = read_files(tmp_path / "store")
    with pytest.raises(ValueError, match="without a store"):
        write(enumerate(x), tmp_path / "store", saved)
    assert read_files(tmp_path / "store") == before


def test_unbounded_collection_raises(tmp_path, saved):
    endless = PeriodicImpulse(0, 1)
    with (
        pytest.raises(ValueError, match="bounded"),
        beam.Pipeline(options=PipelineOptions(**ALONE)) as pipeline,
    ):
        pipeline | endless | WriteToSoftTargetStore(tmp_path / "store", saved)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": 3}, "`path`"),
        ({"teacher": 3}, r"`teacher`.*Received: teacher=3"),
        ({"teacher": make_teacher}, None),
        ({"top_k": 0}, "top_k=0"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"examples_per_shard": -1}, "examples_per_shard=-1"),
    ],
)
def test_arguments(tmp_path, arguments, message):
    arguments = {"path": tmp_path, "teacher": "teacher.keras", **arguments}
    if message is None:
        WriteToSoftTargetStore(**arguments)
        return
    with pytest.raises(ValueError, match=message):
        WriteToSoftTargetStore(**arguments)


def test_a_model_has_to_be_saved(tmp_path):
    with pytest.raises(ValueError, match=re.escape('.save("teacher.keras")')):
        WriteToSoftTargetStore(tmp_path, make_teacher())
