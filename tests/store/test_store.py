"""Soft targets on disk: the files, and how they join their inputs again."""

import errno
import json
import os
import pickle
import stat
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy.special import softmax

import keras_distill
import reference
from keras_distill import SoftTargetStore
from keras_distill import losses
from keras_distill.store import shards
from keras_distill.store.records import RecordFormat
from keras_distill.store.shards import choose_shard_size

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# The errors within a `tf.data` pipeline, and within a `PyDataset`.
MISMATCH = (tf.errors.InvalidArgumentError, ValueError)


def create(path, teacher, dataset, **kwargs):
    if isinstance(teacher, types.FunctionType):
        kwargs.setdefault("teacher_id", "function")
    return SoftTargetStore.create(path, teacher, dataset, verbose=0, **kwargs)


def teacher_of(size, num_classes=40, seed=0):
    """Makes a teacher with logits of about the given size."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(
                num_classes,
                kernel_initializer=keras.initializers.RandomNormal(
                    stddev=size, seed=seed
                ),
            ),
        ]
    )


def inputs(examples, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(examples, 6)).astype("float32")


def files_of(folder):
    """Returns the bytes of all files except locks."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.startswith(".")
    }


def assert_equal(ours, theirs):
    """Compares arrays in any structure."""
    keras.tree.assert_same_structure(ours, theirs)
    for pair in zip(
        keras.tree.flatten(ours), keras.tree.flatten(theirs), strict=True
    ):
        np.testing.assert_array_equal(*pair)


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "truncated between records":
        content = b""
    elif how == "flipped":
        content[len(content) // 2] ^= 4
    path.write_bytes(content)
    if how == "missing":
        path.unlink()


# The contents of a store.


@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0])
def test_dense_float16_is_close_to_the_logits(tmp_path, size):
    """Logits near the largest logit keep their digits, at every size."""
    x = inputs(300)
    teacher = teacher_of(size)
    store = create(tmp_path / "store", teacher, x)
    logits = np.float64(teacher.predict(x, verbose=0))
    gap = logits.max(-1, keepdims=True) - logits
    np.testing.assert_array_less(
        np.abs(store[:] - logits), 2**-11 * gap + 1e-3 * (gap < 1) + 1e-6 * size
    )
    for temperature in (1.0, 4.0):
        np.testing.assert_allclose(
            reference.softmax(store[:] / temperature, -1),
            reference.softmax(logits / temperature, -1),
            atol=2e-3,
        )


def test_float16_contains_differences(tmp_path):
    """The logits themselves may overflow float16."""
    x = inputs(20)
    store = create(tmp_path / "store", lambda x: x + 1e5, x)
    np.testing.assert_allclose(store[:] - 1e5, x, atol=0.02)
    masked = np.float32([0, 0, 0, 0, 0, -6e4])
    store = create(tmp_path / "masked", lambda x: x + masked, x)
    np.testing.assert_allclose(store[:], x + masked, rtol=2e-3, atol=4e-3)


def test_dense_float32_is_exact(tmp_path):
    x = inputs(300)
    teacher = teacher_of(1e4)
    store = create(tmp_path / "store", teacher, x, dtype="float32")
    np.testing.assert_array_equal(
        store[:], teacher.predict(x, batch_size=256, verbose=0)
    )


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_top_k_equals_top_k_targets(tmp_path, dtype):
    x = inputs(300)
    teacher = teacher_of(8.0, 300)
    store = create(
        tmp_path / "store",
        teacher,
        x,
        top_k=5,
        dtype=dtype,
        temperatures=(2.0,),
    )
    expected = keras_distill.top_k_targets(
        teacher.predict(x, batch_size=256, verbose=0), 5, (2.0,), dtype
    )
    for ours, theirs in zip(store[:], expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    assert store.info()["temperatures"] == [2.0]


@pytest.mark.parametrize(
    ("num_classes", "top_k", "largest"),
    [(10, None, 36), (1000, None, 2016), (1000, 10, 64), (50_257, 64, 272)],
)
def test_size_on_disk(tmp_path, num_classes, top_k, largest):
    examples = 2000 if num_classes < 50_000 else 1000
    keras.utils.set_random_seed(0)
    teacher = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(num_classes)]
    )
    store = create(tmp_path / "store", teacher, inputs(examples), top_k=top_k)
    on_disk = sum(
        path.stat().st_size for path in (tmp_path / "store").iterdir()
    )
    assert store.info()["bytes"] == on_disk
    assert store.info()["bytes_per_record"] == on_disk / examples
    assert on_disk / examples <= largest


def test_reads_single_examples_and_slices(tmp_path):
    x = inputs(50)
    teacher = teacher_of(3.0)
    store = create(
        tmp_path / "store", teacher, x, dtype="float32", examples_per_shard=7
    )
    expected = teacher.predict(x, verbose=0)
    assert len(store) == 50
    assert store.info()["shards"] == 8
    for key in (0, 6, 7, 49, -1, -50, np.int64(3), slice(5, 30), slice(None)):
        np.testing.assert_allclose(store[key], expected[key], rtol=1e-5)
    for key in (slice(3, 50, 9), slice(20, 20), slice(40, 10)):
        np.testing.assert_allclose(store[key], expected[key], rtol=1e-5)
    assert len(list(store)) == 50
    for key in (50, -51):
        with pytest.raises(IndexError, match="50 records"):
            store[key]


@pytest.mark.parametrize("examples", [200, 256, 700])
def test_examples_in_any_order(tmp_path, monkeypatch, examples):
    """The digest of each file is compared only once."""
    store = create(
        tmp_path / "s",
        teacher_of(1.0, 5),
        inputs(examples),
        batch_size=50,
        examples_per_shard=300,
    )
    expected = store[:]
    reads = []
    digest_file = shards._digest_file

    def count(path):
        reads.append(path)
        return digest_file(path)

    monkeypatch.setattr(shards, "_digest_file", count)
    monkeypatch.setattr("keras_distill.store.reader._SHARDS_OPEN", 1)
    store = SoftTargetStore(tmp_path / "s")
    order = np.random.default_rng(0).permutation(examples)
    np.testing.assert_array_equal(
        np.stack([store[int(number)] for number in order]), expected[order]
    )
    assert len(reads) == len(set(reads)) == store.info()["shards"]


def test_several_outputs_and_positions(tmp_path):
    x = inputs(20)
    source = keras.Input((6,))
    teacher = keras.Model(
        source,
        {
            "tokens": keras.layers.Dense(7)(
                keras.layers.Reshape((3, 2))(source)
            ),
            "whole": [keras.layers.Dense(4)(source)],
        },
    )
    expected = teacher.predict(x, verbose=0)
    dense = create(tmp_path / "dense", teacher, x)[:]
    assert list(dense) == ["tokens", "whole"]
    np.testing.assert_allclose(dense["tokens"], expected["tokens"], atol=4e-3)
    np.testing.assert_allclose(
        dense["whole"][0], expected["whole"][0], atol=4e-3
    )
    top = create(tmp_path / "top", teacher, x, top_k=2)[:]
    assert top["tokens"].classes.shape == (20, 3, 2)
    np.testing.assert_array_equal(
        top["tokens"].classes[..., 0], expected["tokens"].argmax(-1)
    )
    np.testing.assert_array_equal(top["whole"][0].num_classes, 20 * [4])


def test_probabilities_become_logits(tmp_path):
    """Exactly for a recognized softmax, otherwise by their logarithm."""
    x = inputs(40)
    model = teacher_of(2.0, 5)
    logits = model.predict(x, verbose=0)
    softmax = keras.layers.Softmax()
    recognized = keras.Sequential([*model.layers, softmax])
    recognized.build((None, 6))
    store = create(tmp_path / "recognized", recognized, x, dtype="float32")
    np.testing.assert_allclose(store[:], logits, rtol=1e-5, atol=1e-5)

    def hidden(inputs):
        return recognized(inputs) + 0.0

    store = create(
        tmp_path / "hidden", hidden, x, dtype="float32", from_logits=False
    )
    np.testing.assert_allclose(
        store[:], reference.log_softmax(logits, -1), rtol=1e-4, atol=1e-4
    )
    with pytest.warns(
        UserWarning, match="Pass `from_logits=False` to `create`"
    ):
        create(tmp_path / "wrong", hidden, x)


# Training on a store.


def train(make_model, data, teacher=None, weights=True, **compile_with):
    student = make_model(seed=1)
    distiller = keras_distill.Distiller(student=student, teacher=teacher)
    distiller.compile(
        **{
            "optimizer": keras.optimizers.Adam(0.05),
            "loss": SPARSE,
            "metrics": ["accuracy"],
            **compile_with,
        }
    )
    history = distiller.fit(
        data, epochs=3, shuffle=False, verbose=0, cache=False
    ).history
    return student.get_weights(), history


def assert_same_training(ours, theirs, rtol=1e-4):
    for ours_, theirs_ in zip(ours[0], theirs[0], strict=True):
        np.testing.assert_allclose(ours_, theirs_, rtol=rtol, atol=1e-5)
    assert set(ours[1]) == set(theirs[1])
    for name, values in theirs[1].items():
        np.testing.assert_allclose(ours[1][name], values, rtol=1e-3)


@pytest.mark.parametrize(
    "kind",
    [
        "single",
        "arrays",
        pytest.param("weighted", marks=pytest.mark.compiled),
    ],
)
def test_training_equals_training_on_the_fly(tmp_path, data, make_model, kind):
    x, y = data
    teacher = make_model(seed=5)
    elements = (x, y)
    if kind == "weighted":
        elements = (x, y, np.linspace(0.5, 2, len(x)).astype("float32"))
    examples = tf.data.Dataset.from_tensor_slices(elements)
    store = create(tmp_path / "store", teacher, examples, dtype="float32")
    attached = {
        "single": lambda: store.attach(examples).batch(8),
        "arrays": lambda: store.attach(elements, batch_size=8),
        "weighted": lambda: store.attach(examples.batch(8)),
    }[kind]()
    assert len(attached) == 3
    assert_same_training(
        train(make_model, attached),
        train(make_model, examples.batch(8), teacher),
    )


def test_unlabelled_and_shuffled(tmp_path, data, make_model):
    """Every example has its own soft targets, in any order."""
    x, _ = data
    teacher = make_model(seed=5)
    dataset = tf.data.Dataset.from_tensor_slices(x)
    store = create(tmp_path / "store", teacher, dataset, dtype="float32")
    attached = store.attach(dataset)
    assert int(attached.cardinality()) == 22
    expected = {
        row.tobytes(): logits
        for row, logits in zip(x, teacher.predict(x, verbose=0), strict=True)
    }
    seen = []
    for ((inputs, targets),) in attached.shuffle(22, seed=1).batch(5):
        for row, logits in zip(inputs, targets, strict=True):
            seen.append(row.numpy().tobytes())
            np.testing.assert_allclose(logits, expected[seen[-1]], rtol=1e-5)
    assert sorted(seen) == sorted(expected)
    train(make_model, attached.shuffle(22).batch(5), loss=None, metrics=None)


def test_top_k_training_equals_training_on_arrays(tmp_path, data, make_model):
    x, y = data
    teacher = make_model(seed=5)
    store = create(
        tmp_path / "store", teacher, (x, y), top_k=2, dtype="float32"
    )
    targets = keras_distill.top_k_targets(teacher.predict(x, verbose=0), 2)
    arrays = tf.data.Dataset.from_tensor_slices(
        (keras_distill.WithSoftTargets(x, targets), y)
    )
    assert_same_training(
        train(make_model, store.attach((x, y), batch_size=8)),
        train(make_model, arrays.batch(8)),
    )


@pytest.mark.parametrize("top_k", [None, 2])
def test_an_ensemble_serves_only_its_temperature(
    tmp_path, data, make_model, top_k
):
    x, y = data
    teachers = [make_model(seed=seed) for seed in (5, 9)]
    store = create(
        tmp_path / "store",
        teachers,
        (x, y),
        dtype="float32",
        temperatures=(3.0,),
        top_k=top_k,
    )
    attached = store.attach((x, y), batch_size=8)

    def train_at(temperature, data, teacher=None):
        return train(
            make_model,
            data,
            teacher,
            distillation_loss=losses.SoftTargetCrossentropy(temperature),
        )

    if top_k is None:
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        assert_same_training(
            train_at(3.0, attached), train_at(3.0, batches, teachers)
        )
        # The arrays of a store also contain the temperature.
        assert isinstance(store[:], keras_distill.EnsembleTargets)
    else:
        train_at(3.0, attached)
    with pytest.raises(ValueError, match="do not hold at the temperature"):
        train_at(1.0, attached)
    assert store.info()["temperatures"] == [3.0]


def test_geometric_ensembles_serve_every_temperature(
    tmp_path, data, make_model
):
    x, y = data
    ensemble = keras_distill.Ensemble(
        [make_model(seed=5), make_model(seed=9)], combine="geometric"
    )
    store = create(tmp_path / "store", ensemble, (x, y), dtype="float32")
    for temperature in (1.0, 5.0):
        loss = losses.SoftTargetCrossentropy(temperature)
        train(make_model, store.attach((x, y)), distillation_loss=loss)
    np.testing.assert_allclose(
        store[:], ensemble.predict(x, verbose=0), rtol=1e-5
    )


def test_an_ensemble_is_averaged_along_its_axis(tmp_path):
    x = 3 * np.random.default_rng(0).normal(size=(4, 3, 2)).astype("float32")
    ensemble = keras_distill.Ensemble([lambda x: x, lambda x: -2 * x], axis=1)
    store = create(
        tmp_path / "store",
        ensemble,
        x,
        dtype="float32",
        temperatures=(2.0,),
        teacher_id="two functions",
    )
    mean = (softmax(x / 2, axis=1) + softmax(-x, axis=1)) / 2
    found = softmax(store[:].logits / 2, axis=1)
    np.testing.assert_allclose(found, mean, rtol=1e-5)


def test_evaluates_with_soft_targets(tmp_path, data, make_model):
    x, y = data
    teacher, student = make_model(seed=5), make_model(seed=1)
    store = create(tmp_path / "store", teacher, (x, y), dtype="float32")
    distiller = keras_distill.Distiller(student=student)
    distiller.compile("sgd", loss=SPARSE)
    logs = distiller.evaluate(store.attach((x, y)), verbose=0, return_dict=True)
    expected = reference.crossentropy(
        teacher.predict(x, verbose=0), student.predict(x, verbose=0), 4.0
    )
    np.testing.assert_allclose(logs["soft_loss"], expected.mean(), rtol=1e-5)


# Inputs and soft targets belong together.


def test_a_mismatch_names_the_example(tmp_path, data, make_model):
    x, y = data
    store = create(tmp_path / "store", make_model(seed=5), (x, y))
    changed = np.copy(x)
    changed[13, 2] += 1e-6
    with pytest.raises(MISMATCH, match=r"Example 13 .*not the example"):
        train(make_model, store.attach((changed, y), batch_size=8))
    with pytest.raises(MISMATCH, match="Example 13 "):
        list(store.attach((changed, y), batch_size=8))
    # Only the first example of the second batch is compared.
    list(store.attach((changed, y), batch_size=8, check="sample"))
    changed[8, 0] += 1.0
    with pytest.raises(MISMATCH, match="Example 8 "):
        list(store.attach((changed, y), batch_size=8, check="sample"))


def test_labels_batches_and_length_may_change(tmp_path, data, make_model):
    x, y = data
    teacher = make_model(seed=5)
    store = create(tmp_path / "store", teacher, x, dtype="float32")
    expected = teacher.predict(x, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices((x, y + 1)).take(10).batch(3)
    (((_, targets), labels), *_) = list(store.attach(dataset))
    np.testing.assert_array_equal(labels, y[:3] + 1)
    np.testing.assert_allclose(targets, expected[:3], rtol=1e-5)
    assert len(list(store.attach(dataset))) == 4


def test_different_order_or_length_raises(tmp_path, data, make_model):
    x, y = data
    store = create(tmp_path / "store", make_model(seed=5), (x, y))
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    for wrong, message in {
        dataset.shuffle(22, seed=1): "not the example that was labelled",
        dataset.skip(1): "Example 0 ",
        dataset.concatenate(dataset): "Expected a dataset of at most",
    }.items():
        for attached in (
            store.attach(wrong).batch(11),
            store.attach(wrong.batch(11)),
        ):
            with pytest.raises(MISMATCH, match=message):
                train(make_model, attached)


@pytest.mark.backend("tensorflow", reason="only TensorFlow has string tensors")
def test_several_inputs_and_strings(tmp_path):
    """The fingerprint depends on every input."""
    words = np.array([b"one", b"two", b"three", b"four"] * 5)
    x = {"numbers": inputs(20), "words": words}

    def teacher(x):
        length = tf.strings.length(x["words"])[:, None]
        return x["numbers"] * tf.cast(length, "float32")

    dataset = tf.data.Dataset.from_tensor_slices(x)
    store = create(
        tmp_path / "store", teacher, dataset.batch(6), dtype="float32"
    )
    np.testing.assert_allclose(
        store[:], x["numbers"] * [[len(word)] for word in words], rtol=1e-6
    )
    list(store.attach(dataset.batch(4)))
    for key in x:
        changed = {**x, key: np.copy(x[key])}
        changed[key][11] = changed[key][10]
        dataset = tf.data.Dataset.from_tensor_slices(changed)
        with pytest.raises(tf.errors.InvalidArgumentError, match="Example 11 "):
            list(store.attach(dataset.batch(4)))


@pytest.mark.parametrize(
    "how", ["truncated", "truncated between records", "flipped", "missing"]
)
def test_damage_names_the_shard(tmp_path, data, make_model, how):
    x, y = data
    path = tmp_path / "store"
    store = create(path, make_model(seed=5), (x, y), examples_per_shard=8)
    damage(path / "soft_targets-00001.npy", how)
    if how != "flipped":
        with pytest.raises(ValueError, match=r"soft_targets-00001\.npy"):
            SoftTargetStore(path)
    store[7]
    with pytest.raises(ValueError, match=r"soft_targets-00001\.npy"):
        store[8]
    with pytest.raises(MISMATCH, match=r"soft_targets-00001\.npy"):
        train(make_model, store.attach((x, y)))


def test_other_programs_read_a_shard(tmp_path, data, make_model):
    """With NumPy, and with TensorFlow's reader of records."""
    x, _ = data
    store = create(tmp_path, make_model(seed=5), x, examples_per_shard=20)
    path = tmp_path / "soft_targets-00000.npy"
    records = np.load(path, mmap_mode="r")
    assert records.shape == (20,)
    assert records.dtype.names == ("fingerprint", "largest_0", "logits_0")
    np.testing.assert_array_equal(
        records["logits_0"].astype("float32")
        + records["largest_0"][:, np.newaxis],
        store[:20],
    )
    size = records.dtype.itemsize
    header = path.stat().st_size - 20 * size
    contents = tf.data.FixedLengthRecordDataset(
        str(path), size, header_bytes=header
    )
    assert [content.numpy() for content in contents] == [
        record.tobytes() for record in records
    ]


@pytest.mark.parametrize("position", [0, 20, 100, 127, 150, -1])
def test_a_flipped_bit_in_a_shard_is_found(
    tmp_path, data, make_model, position
):
    create(tmp_path, make_model(seed=5), data[0])
    path = tmp_path / "soft_targets-00000.npy"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"soft_targets-00000\.npy"):
        SoftTargetStore(tmp_path)[0]


def test_a_shard_of_another_store_is_found(tmp_path, data, make_model):
    x, _ = data
    for name, seed in (("a", 5), ("b", 6)):
        create(tmp_path / name, make_model(seed=seed), x)
    name = "soft_targets-00000.npy"
    os.replace(tmp_path / "a" / name, tmp_path / "b" / name)
    with pytest.raises(ValueError, match="from another store"):
        SoftTargetStore(tmp_path / "b")[0]


def test_no_pickle(tmp_path, data, make_model):
    create(tmp_path / "store", make_model(seed=5), data[0], top_k=2)
    json.loads((tmp_path / "store" / "manifest.json").read_text())
    for content in files_of(tmp_path / "store").values():
        assert not content.startswith(b"\x80")
        assert b"numpy" not in content


@pytest.mark.parametrize("top_k", [None, 2])
def test_a_store_can_be_pickled(tmp_path, data, make_model, top_k):
    store = create(tmp_path / "store", make_model(seed=5), data, top_k=top_k)
    expected = store[:]
    content = pickle.dumps(store)
    # Only the path is pickled.
    assert len(content) < 1000
    other = pickle.loads(content)
    assert other.info() == store.info()
    assert_equal(other[:], expected)


@pytest.mark.backend(
    "jax", "torch", reason="a tf.data.Dataset cannot be pickled"
)
@pytest.mark.parametrize("top_k", [None, 2])
def test_an_attached_dataset_can_be_pickled(tmp_path, data, make_model, top_k):
    store = create(tmp_path / "store", make_model(seed=5), data, top_k=top_k)
    attached = store.attach(data, batch_size=8)
    expected = list(attached)
    other = pickle.loads(pickle.dumps(attached))
    assert len(other) == 3
    assert_equal(list(other), expected)


# Teachers.


def test_the_teacher_is_recognized_by_architecture_and_weights(
    tmp_path, data, make_model
):
    x, _ = data
    path = tmp_path / "store"
    store = create(path, make_model(seed=5), x)
    # The same teacher in a different object, with different names.
    same = make_model(seed=5)
    create(path, same, x)
    store.attach(x, teacher=same)
    # `trainable` makes no difference.
    same.trainable = False
    create(path, same, x)
    store.attach(x, teacher=same)
    kernel, bias = same.get_weights()
    same.set_weights([kernel, bias + 1e-6])
    with pytest.raises(ValueError, match="begun with another `teacher`"):
        create(path, same, x)
    with pytest.raises(ValueError, match="made by another teacher"):
        store.attach(x, teacher=same)
    relu = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, activation="relu")]
    )
    relu.set_weights([kernel, bias])
    with pytest.raises(ValueError, match="made by another teacher"):
        store.attach(x, teacher=relu)


def test_a_frozen_teacher_is_the_same(tmp_path, data):
    """Also if some of the weights are never trained."""
    x, _ = data
    teacher = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(5),
            keras.layers.BatchNormalization(),
        ]
    )
    store = create(tmp_path, teacher, x)
    teacher.layers[0].trainable = False
    store.attach(x, teacher=teacher)
    teacher.trainable = False
    store.attach(x, teacher=teacher)
    teacher.layers[2].moving_mean.assign(np.ones(5))
    with pytest.raises(ValueError, match="made by another teacher"):
        store.attach(x, teacher=teacher)


FINGERPRINT = """
import sys, keras, keras_distill
for _ in range(int(sys.argv[2])):
    keras.layers.Dense(1)
model = keras.models.load_model(sys.argv[1])
store = keras_distill.SoftTargetStore(sys.argv[3])
import numpy as np
store.attach(np.zeros((1, 6), "float32"), teacher=model)
"""


@pytest.mark.slow
def test_a_teacher_loaded_in_another_process_is_the_same(tmp_path):
    source = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu")(source)
    hidden = keras.layers.BatchNormalization()(hidden)
    merged = keras.layers.Concatenate()([hidden, source])
    teacher = keras.Model(source, keras.layers.Dense(3)(merged))
    teacher.save(tmp_path / "teacher.keras")
    create(tmp_path / "store", teacher, inputs(10))
    subprocess.run(
        [
            sys.executable,
            "-c",
            FINGERPRINT,
            str(tmp_path / "teacher.keras"),
            "5",
            str(tmp_path / "store"),
        ],
        check=True,
    )


# Views.


def shift(x, seed):
    return x + tf.random.stateless_normal(x.shape, seed)


def test_views_are_replayed(tmp_path, data, make_model):
    """Teacher and student see the same augmentation, new in each epoch."""
    x, y = data
    teacher = make_model(seed=5)
    path = tmp_path / "store"
    store = create(
        path, teacher, (x, y), views=3, augment=shift, dtype="float32", seed=8
    )
    assert len(store) == 66
    assert store.info()["views"] == 3
    attached = store.attach((x, y), augment=shift, batch_size=8)
    assert int(attached.cardinality()) == 3
    # Reading only the first batch does not advance the view.
    next(iter(attached))
    epochs = [list(attached) for _ in range(4)]
    for batches in epochs:
        for (inputs, targets), _ in batches:
            np.testing.assert_allclose(
                targets,
                teacher.predict(inputs, verbose=0),
                rtol=1e-4,
                atol=1e-5,
            )
    first = [
        np.concatenate([b[0].inputs for b in batches]) for batches in epochs
    ]
    assert len({inputs.tobytes() for inputs in first}) == 3
    np.testing.assert_array_equal(first[3], first[0])
    resumed = store.attach((x, y), augment=shift, batch_size=8, initial_epoch=5)
    np.testing.assert_array_equal(
        np.concatenate([x.inputs for x, _ in resumed]), first[2]
    )
    # A different seed means a different augmentation.
    other = create(
        tmp_path / "other", teacher, x, views=1, augment=shift, seed=9
    )
    ((batch, _),), *_ = other.attach(x, augment=shift)
    assert not np.allclose(batch[:8], first[0][:8])


def test_fit_shows_the_next_view_in_each_epoch(tmp_path, data, make_model):
    """The losses equal those of one `fit` for each view."""
    x, y = data
    teacher = make_model(seed=5)
    store = create(tmp_path / "store", teacher, (x, y), views=2, augment=shift)
    attached = store.attach((x, y), augment=shift, batch_size=11)
    losses = train(make_model, attached)[1]["soft_loss"]
    student = make_model(seed=1)
    distiller = keras_distill.Distiller(student=student)
    distiller.compile(keras.optimizers.Adam(0.05), loss=SPARSE)
    by_hand = []
    for epoch in range(3):
        view = store.attach(
            (x, y), augment=shift, batch_size=11, initial_epoch=epoch
        )
        history = distiller.fit(view, verbose=0).history
        by_hand += history["soft_loss"]
    np.testing.assert_allclose(losses, by_hand, rtol=1e-4)


@pytest.mark.parametrize("known", [True, False])
def test_views_of_single_examples_can_be_shuffled(
    tmp_path, data, make_model, known
):
    x, _ = data
    teacher = make_model(seed=5)
    dataset = tf.data.Dataset.from_tensor_slices(x)
    if not known:
        dataset = dataset.filter(lambda _: True)
    store = create(tmp_path / "store", teacher, dataset, views=2, augment=shift)
    attached = store.attach(dataset, augment=shift).shuffle(22).batch(22)
    epochs = [list(attached) for _ in range(3)]
    sums = []
    for (((inputs, targets), *_),) in epochs:
        np.testing.assert_allclose(
            targets,
            teacher.predict(inputs, verbose=0),
            atol=2e-2,
        )
        sums.append(float(tf.reduce_sum(inputs)))
    assert sums[0] == pytest.approx(sums[2], abs=1e-3)
    assert sums[0] != pytest.approx(sums[1], abs=1e-3)


def test_views_advance_without_reading_ahead(tmp_path, data, make_model):
    """Keras reads all batches, but not the end of the dataset."""
    x, _ = data
    store = create(
        tmp_path / "store", make_model(seed=5), x, views=3, augment=shift
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    attached = store.attach(x, augment=shift, batch_size=11)
    attached = attached.with_options(options)
    first = []
    for _ in range(4):
        batches = iter(attached)
        ((inputs, _),) = next(batches)
        first.append(float(inputs[0, 0]))
        next(batches)
    assert len(set(first)) == 3
    assert first[3] == first[0]


@pytest.mark.parametrize("count", [12, 600])
def test_an_incomplete_pass_does_not_advance_the_view(tmp_path, data, count):
    x = np.arange(4.0 * count, dtype="float32").reshape(count, 4)
    dataset = tf.data.Dataset.from_tensor_slices(x)
    store = create(
        tmp_path / "store",
        lambda x: x,
        dataset,
        views=3,
        augment=shift,
        dtype="float32",
    )
    attached = store.attach(dataset, augment=shift)
    assert int(attached.cardinality()) == count

    def read(part):
        return np.stack([inputs for ((inputs, _),) in part])

    first = read(attached.take(count - 1))
    np.testing.assert_array_equal(read(attached.take(1)), first[:1])
    passes = [read(attached) for _ in range(4)]
    np.testing.assert_array_equal(passes[0][:-1], first)
    assert len({inputs.tobytes() for inputs in passes}) == 3
    np.testing.assert_array_equal(passes[3], passes[0])


def test_a_different_augmentation_is_found(tmp_path, data, make_model):
    x, _ = data
    store = create(
        tmp_path / "store", make_model(seed=5), x, views=2, augment=shift
    )

    def other(x, seed):
        return x + tf.random.stateless_uniform(x.shape, seed)

    with pytest.raises(tf.errors.InvalidArgumentError, match="Example 0 "):
        list(store.attach(x, augment=other))
    with pytest.raises(ValueError, match="`augment` that the store was"):
        store.attach(x)
    plain = create(tmp_path / "plain", make_model(seed=5), x)
    with pytest.raises(ValueError, match="`augment` that the store was"):
        plain.attach(x, augment=shift)


# Creating a store that exists.


def test_different_data_or_arguments_raise(tmp_path, data, make_model):
    x, y = data
    path = tmp_path / "store"
    teacher = make_model(seed=5)
    create(path, teacher, (x, y))
    for other in (x + 1, x[:10], np.concatenate([x, x])):
        with pytest.raises(ValueError, match="For another transfer set, pass"):
            create(path, teacher, other)
    with pytest.raises(ValueError, match="begun with another `from_logits`"):
        create(path, teacher, (x, y), from_logits=False)
    # Without `examples_per_shard`, the store decides.
    create(path, teacher, (x, y), batch_size=5)


def test_python_code_needs_a_name(tmp_path, data, make_model):
    x, _ = data

    class Doubles(keras.Model):
        def call(self, inputs):
            return 2 * inputs

    layers = [keras.Input((6,)), keras.layers.Lambda(lambda x: 2 * x)]
    for teacher in (
        lambda x: 2 * x,
        Doubles(),
        keras.Sequential(layers),
        keras_distill.Ensemble([lambda x: x, lambda x: 2 * x], "geometric"),
    ):
        with pytest.raises(ValueError, match="Received: teacher_id=None"):
            SoftTargetStore.create(tmp_path / "store", teacher, x, verbose=0)
    store = create(tmp_path / "store", lambda x: 2 * x, x, teacher_id="double")
    assert store.info()["teacher_id"] == "double"
    assert store.info()["teacher"] is None
    # The name is all that is compared.
    create(tmp_path / "store", lambda x: 3 * x, x, teacher_id="double")
    list(store.attach(x, batch_size=4, teacher_id="double"))
    with pytest.raises(ValueError, match="begun with another `teacher_id`"):
        create(tmp_path / "store", lambda x: 2 * x, x, teacher_id="other")
    with pytest.raises(ValueError, match="begun with another `teacher`"):
        create(tmp_path / "store", teacher_of(2.0, 6), x)
    with pytest.raises(ValueError, match="pass `teacher_id`"):
        store.attach(x, teacher=make_model())
    with pytest.raises(ValueError, match=r"'double'.*teacher_id='other'"):
        store.attach(x, teacher_id="other")
    for wrong in ("", 5):
        with pytest.raises(ValueError, match="a name for the teacher"):
            create(tmp_path / "store", make_model(), x, teacher_id=wrong)


def test_a_relative_path_stays_valid_in_another_folder(
    tmp_path, data, make_model, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    store = create("store", make_model(seed=5), data[0])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store[0].shape == (5,)


# Kinds of data.


@pytest.mark.parametrize("how", ["batch_size", "augment"])
def test_single_examples_of_teachers_without_known_inputs(tmp_path, data, how):
    """Only the arguments show that the elements are not batches."""
    x, _ = data
    dataset = tf.data.Dataset.from_tensor_slices(x)
    arguments = {"batch_size": 4} if how == "batch_size" else {"augment": shift}
    store = create(
        tmp_path / "store",
        lambda x: 2 * x,
        dataset,
        dtype="float32",
        **arguments,
    )
    assert len(store) == 22
    if how == "batch_size":
        np.testing.assert_array_equal(store[:], 2 * x)


def test_inputs_of_unknown_rank(tmp_path, data, make_model):
    x, y = data
    teacher = make_model(seed=5)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    dataset = dataset.map(
        lambda x, y: (tf.numpy_function(lambda x: x, [x], "float32"), y)
    )
    assert dataset.element_spec[0].shape.rank is None
    store = create(tmp_path / "store", teacher, dataset, dtype="float32")
    for (inputs, targets), *_ in store.attach(dataset):
        expected = teacher.predict(inputs, verbose=0)
        np.testing.assert_allclose(targets, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="like those that were labelled"):
        store.attach(dataset.map(lambda x, y: (tf.cast(x, "float16"), y)))


def test_arrays_are_cast_as_in_fit(tmp_path, data):
    """A Keras model casts its inputs. A function does not."""
    x, y = data
    kernel = np.ones((x.shape[1], 3), "float32")

    def teacher(x):
        return ops.matmul(x, kernel)

    double = x.astype("float64") + 1e-12
    store = create(tmp_path / "store", teacher, double, dtype="float32")
    np.testing.assert_allclose(store[:], x @ kernel, rtol=1e-5, atol=1e-6)
    assert store.info()["inputs"][0]["dtype"] == "float32"
    for same in (x, double):
        ((batch, _), _), *_ = store.attach((same, y))
        assert batch.dtype == "float32"
        found = keras_distill.predict_logits(teacher, same, verbose=0)
        np.testing.assert_allclose(found, x @ kernel, rtol=1e-5, atol=1e-6)


def test_numpy_integers_are_integers(tmp_path, data, make_model):
    x, _ = data
    options = {"top_k": 2, "examples_per_shard": 8, "views": 2, "seed": 3}
    stores = [
        create(
            tmp_path / kind.__name__,
            make_model(seed=5),
            x,
            augment=shift,
            **{name: kind(value) for name, value in options.items()},
        )
        for kind in (int, np.int64)
    ]
    assert files_of(stores[0].path) == files_of(stores[1].path)


def test_lists_of_inputs(tmp_path):
    sources = [keras.Input((6,)), keras.Input((6,))]
    outputs = keras.layers.Dense(4)(keras.layers.Add()(sources))
    teacher = keras.Model(sources, outputs)
    x = [inputs(70), inputs(70, seed=1)]
    store = create(tmp_path / "store", teacher, (x, np.zeros(70)))
    np.testing.assert_allclose(
        store[:], teacher.predict(x, verbose=0), atol=4e-3
    )
    (((attached, _), _), *_) = store.attach((x, np.zeros(70)))
    np.testing.assert_array_equal(attached[1], x[1][:32])


def test_batches_larger_than_one_read(tmp_path, make_model):
    x = inputs(10_000)
    teacher = make_model(seed=5)
    store = create(tmp_path / "store", teacher, x, examples_per_shard=1500)
    expected = teacher.predict(x, batch_size=1000, verbose=0)
    for size in (7000, 4096, 999):
        seen = [targets for ((_, targets),) in store.attach(x, batch_size=size)]
        np.testing.assert_allclose(np.concatenate(seen), expected, atol=2e-2)


def test_py_datasets_and_generators(tmp_path, data, make_model):
    x, y = data
    teacher = make_model(seed=5)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(8 * index, 8 * index + 8)
            return x[rows], y[rows]

    def generate():
        for index in range(3):
            yield Batches()[index]

    expected = teacher.predict(x, verbose=0)
    for name, dataset in (("py", Batches()), ("generator", generate())):
        store = create(tmp_path / name, teacher, dataset, dtype="float32")
        np.testing.assert_allclose(store[:], expected, rtol=1e-5, atol=1e-6)
    batches = list(store.attach(Batches()))
    assert [len(x.inputs) for x, _ in batches] == [8, 8, 6]


def test_list_means_several_inputs(tmp_path):
    first, second = inputs(20), inputs(20, seed=1)
    store = create(
        tmp_path / "store", lambda x: x[0] + 2 * x[1], [first, second]
    )
    np.testing.assert_allclose(
        store[:], first + 2 * second, rtol=2e-3, atol=4e-3
    )
    ((x, soft_targets),) = (
        element for (element,) in store.attach([first, second], batch_size=20)
    )
    assert_equal(tuple(np.asarray(array) for array in x), (first, second))
    np.testing.assert_array_equal(soft_targets, store[:])


def test_dataset_with_soft_targets_raises(tmp_path):
    x = inputs(8)

    class Batches(keras.utils.PyDataset):
        @property
        def num_batches(self):
            return 1

        def __getitem__(self, index):
            return (keras_distill.WithSoftTargets(x, x),)

    with pytest.raises(ValueError, match="without soft targets"):
        create(tmp_path / "store", lambda x: x, Batches())
    with pytest.raises(ValueError, match="without soft targets"):
        keras_distill.predict_logits(lambda x: x, Batches(), verbose=0)


def test_a_folder_that_cannot_be_synchronized(tmp_path, monkeypatch):
    """Some mounted file systems cannot do it."""
    fsync = os.fsync

    def fail(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    x = inputs(20)
    store = create(tmp_path / "store", lambda x: x, x, dtype="float32")
    np.testing.assert_array_equal(store[:], x)


def test_progress_is_shown(tmp_path, data, make_model, capsys, monkeypatch):
    x, _ = data
    totals = []
    progress_bar = keras.utils.Progbar
    monkeypatch.setattr(
        keras.utils,
        "Progbar",
        lambda target, **options: (
            totals.append(target) or progress_bar(target, **options)
        ),
    )
    SoftTargetStore.create(tmp_path / "store", make_model(seed=5), x)
    assert "22/22" in (shown := capsys.readouterr().out)
    assert "examples/s" in shown
    assert totals == [22]
    create(tmp_path / "silent", make_model(seed=5), x)
    assert capsys.readouterr().out == ""


def test_records_of_a_hundred_thousand_classes():
    """The sizes in the documentation for a billion examples."""
    for top_k, temperatures, size, files in (
        (None, None, 200_008, 3_906_250),
        (64, (1.0, 4.0), 396, 61_036),
    ):
        record = RecordFormat(
            0, [(100_000,)], "float16", top_k, temperatures
        ).record
        assert record.itemsize == size
        per_file = choose_shard_size(record.itemsize, 256)
        assert -(-(10**9) // per_file) == files


@pytest.mark.parametrize(
    ("example_bytes", "batch_size", "examples"),
    [
        (100, 256, 16384),
        (100, 1000, 16000),
        (2**20, 32, 64),
        # A batch does not fit.
        (2**23, 32, 8),
        (2**30, 32, 1),
    ],
)
def test_size_of_a_shard(example_bytes, batch_size, examples):
    """Whole batches, and at most 64 MiB."""
    assert choose_shard_size(example_bytes, batch_size) == examples


@pytest.mark.backend(
    "jax", "torch", reason="`tf.data` takes batches of any size"
)
def test_batches_of_different_sizes_raise(tmp_path, data, make_model):
    x, y = data

    class Batches(keras.utils.PyDataset):
        @property
        def num_batches(self):
            return 3

        def __getitem__(self, index):
            rows = [slice(0, 8), slice(8, 12), slice(12, 22)][index]
            return x[rows], y[rows]

    store = create(tmp_path / "store", make_model(seed=5), (x, y))
    attached = store.attach(Batches())
    attached[0]
    with pytest.raises(ValueError, match=r"batch of 4 at index 1.*batch of 8"):
        attached[1]


@pytest.mark.parametrize("rest", [1e-1, 1e-4, 1e-8, 1e-12])
def test_a_store_keeps_the_digits_of_a_small_rest(tmp_path, rest):
    logits = np.log([0.7 * (1 - rest), 0.3 * (1 - rest), *(10 * [rest / 10])])
    logits = np.float32(logits)
    store = create(
        tmp_path,
        lambda x: ops.zeros_like(x[:, :1]) + logits,
        inputs(4),
        top_k=2,
        dtype="float32",
        temperatures=(1.0,),
    )
    p = softmax(np.float64(logits))
    found = np.float64(store[:].log_probabilities(1.0, -1))[:, -1]
    np.testing.assert_allclose(np.exp(found), p[2:].sum(), rtol=1e-3)
