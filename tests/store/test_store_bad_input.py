"""Every bad call of a store raises a clear error before any work is lost."""

import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_distill
from keras_distill import SoftTargetStore
from keras_distill import losses
from keras_distill.store import shards

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")


def model(classes=3, scale=1.0):
    initializer = keras.initializers.RandomNormal(stddev=scale, seed=0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(classes, kernel_initializer=initializer),
        ]
    )


def keep(x, seed):
    return x


def batches(x=X):
    return tf.data.Dataset.from_tensor_slices(x).batch(4)


class Endless(keras.utils.PyDataset):
    num_batches = None

    def __getitem__(self, index):
        return X


CREATE = {
    "top_k_zero": ({"top_k": 0}, r"`top_k` to be an integer, at least 1"),
    "top_k_float": ({"top_k": 2.0}, r"Received: top_k=2\.0"),
    "top_k_all": ({"top_k": 3}, r"from 1 to 2\. Received: top_k=3"),
    "dtype": ({"dtype": "float61"}, r"Did you mean 'float16'\?.*'float61'"),
    "dtype_none": ({"dtype": None}, r"Unknown `dtype`.*dtype=None"),
    "temperatures_number": (
        {"top_k": 1, "temperatures": 4.0},
        r"list or tuple of positive numbers. Received: temperatures=4\.0",
    ),
    "temperatures_zero": (
        {"top_k": 1, "temperatures": (1.0, 0.0)},
        r"between 0\.001 and 10000\. Received: temperatures=0\.0",
    ),
    "temperatures_twice": (
        {"top_k": 1, "temperatures": (2, 2.0)},
        r"`temperatures` to be different",
    ),
    "temperatures_empty": (
        {"top_k": 1, "temperatures": ()},
        r"Received: temperatures=\(\)",
    ),
    "temperatures_dense": (
        {"temperatures": (4.0,)},
        r"are valid at every temperature",
    ),
    "ensemble_without_temperature": (
        {"teacher": [model(), model()]},
        r"pass it, for example.*Received: temperatures=None",
    ),
    "ensemble_with_two": (
        {"teacher": [model(), model()], "temperatures": (1.0, 4.0)},
        r"Received: temperatures=\(1\.0, 4\.0\)",
    ),
    "ensemble_of_probabilities": (
        {
            "teacher": keras_distill.Ensemble([model(), model()]),
            "temperatures": (1.0,),
            "from_logits": False,
        },
        r"Ensemble\(models, from_logits=False\)`. Received: from_logits=False",
    ),
    "top_k_along_a_different_axis": (
        {
            "teacher": keras_distill.Ensemble([model(), model()], axis=0),
            "temperatures": (1.0,),
            "top_k": 1,
        },
        r"classes on the last axis.*Received: an `Ensemble` with axis=0",
    ),
    "batch_size_of_batches": (
        {"dataset": batches(), "batch_size": 4},
        r"batches already. Received: batch_size=4",
    ),
    "batch_size_zero": ({"batch_size": 0}, r"`batch_size` to be an integer"),
    "views_without_augment": ({"views": 2}, r"`views` need an `augment`"),
    "views_zero": ({"views": 0}, r"`views` to be an integer, at least 1"),
    "augment_string": ({"augment": "flip"}, r"`augment` to be a function"),
    "augment_batches": (
        {"dataset": batches(), "augment": keep},
        r"one example at a time\. Pass the dataset before `\.batch\(\)`",
    ),
    "augment_none": (
        {"augment": lambda x, seed: None},
        "`augment` to return the inputs",
    ),
    "seed": ({"seed": -1}, r"`seed` to be an integer, from 0"),
    "shard_number": ({"shard": 1}, r"`shard` to be a tuple `\(i, n\)`"),
    "shard_outside": ({"shard": (2, 2)}, r"from 0 to 1\. Received: shard"),
    "examples_per_shard": (
        {"examples_per_shard": 0},
        r"`examples_per_shard` to be an integer, at least 1",
    ),
    "empty": ({"dataset": X[:0]}, r"at least one example"),
    "empty_batches": (
        {"dataset": tf.data.Dataset.from_tensors(X[:0]).repeat(3)},
        r"at least one example",
    ),
    "one_for_all": (
        {"teacher": lambda x: ops.mean(x, axis=0, keepdims=True)},
        r"row for each row of its inputs.*Received: .*\(1, 4\)",
    ),
    "single_examples_for_a_batch": (
        {
            "dataset": tf.data.Dataset.from_tensor_slices(X),
            "teacher": lambda x: ops.reshape(x, (-1, 4)),
        },
        r"row for each row.*pass `batch_size`.*\(1, 4\)",
    ),
    "no_classes": (
        {"teacher": lambda x: ops.sum(x, axis=-1)},
        r"of shape \(batch, \.\.\., classes\)\. Received: shape \(8,\)",
    ),
    "rank": (
        {"dataset": tf.data.Dataset.from_tensor_slices(X[0])},
        r"Expected inputs of rank \[2\]",
    ),
    "ragged": (
        {
            "dataset": tf.data.Dataset.from_tensors(
                tf.ragged.constant([[1.0], [1.0, 2.0]])
            )
        },
        r"Expected inputs that are dense tensors",
    ),
    "sparse": (
        {"dataset": tf.sparse.from_dense(X)},
        r"Expected inputs that are dense arrays",
    ),
    "endless": (
        {"dataset": batches().repeat()},
        r"a dataset that ends. Pass the dataset before `\.repeat\(\)`",
    ),
    "endless_py_dataset": ({"dataset": Endless()}, r"a dataset that ends"),
    "url": ({"path": "gs://bucket/store"}, r"a folder of this machine"),
    "workers_of_parts_of_batches": (
        {"shard": (0, 2), "examples_per_shard": 4},
        r"at least the size of a batch, 12,.*examples_per_shard=4",
    ),
    "overflow_of_float32": (
        {
            "teacher": lambda x: x * 1e38 * 1e3,
            "dtype": "float32",
        },
        r"not finite: the teacher's outputs for example 0",
    ),
    "class_ids": (
        {"teacher": lambda x: ops.argmax(x, -1)},
        r"floating point logits.*int",
    ),
    "teacher": ({"teacher": "model"}, r"Expected `teacher` to be"),
    "nan": (
        {"dataset": np.where(np.arange(48).reshape(12, 4) == 30, np.nan, X)},
        r"not finite: the teacher's outputs for example 7 \(the first is 0\)",
    ),
    "infinity_in_top_k": (
        {
            "teacher": lambda x: x + ops.convert_to_tensor([0, 0, 0, np.inf]),
            "top_k": 1,
        },
        r"not finite: the teacher's outputs for example 0",
    ),
    "soft_targets": (
        {"dataset": keras_distill.WithSoftTargets(X, X)},
        r"without soft targets.*WithSoftTargets",
    ),
    "overflow": (
        {"teacher": model(scale=1e5)},
        r"float16 cannot represent .* example \d+ .*dtype=\"float32\"",
    ),
    "masked_classes": (
        {"teacher": lambda x: x - ops.convert_to_tensor([0.0, 0.0, 0.0, 1e9])},
        r"float16 cannot represent.*-1e\+09",
    ),
}


@pytest.mark.parametrize("name", CREATE)
def test_create(tmp_path, name):
    arguments, message = CREATE[name]
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        SoftTargetStore.create(
            **{
                "path": tmp_path / "store",
                "teacher": model(),
                "teacher_id": "teacher",
                "dataset": X,
                "verbose": 0,
                **arguments,
            }
        )


ATTACH = {
    "check": ({"check": "none"}, r"Unknown `check`.*check='none'"),
    "initial_epoch": ({"initial_epoch": -1}, r"`initial_epoch`.*=-1"),
    "dtype": (
        {"dataset": X.astype("int32")},
        r"inputs like those that were labelled.*int32",
    ),
    "attached": (
        {
            "dataset": tf.data.Dataset.from_tensors(
                (keras_distill.WithSoftTargets(X, X), X)
            )
        },
        r"without soft targets.*WithSoftTargets",
    ),
    "attached_arrays": (
        {"dataset": keras_distill.WithSoftTargets(X, X)},
        r"without soft targets.*WithSoftTargets",
    ),
    "shape": (
        {"dataset": X[:, :3]},
        r"inputs like those that were labelled.*'shape': \[3\]",
    ),
    "rank": (
        {"dataset": X[:, 0]},
        r"inputs like those that were labelled.*'shape': \[\]",
    ),
    "batch_size": (
        {"dataset": batches(), "batch_size": 2},
        r"batches already. Received: batch_size=2",
    ),
    "augment": ({"augment": keep}, r"the `augment` that the store was"),
    "teacher": ({"teacher": model(4)}, r"made by another teacher"),
}


@pytest.mark.parametrize("name", ATTACH)
def test_attach(tmp_path, name):
    arguments, message = ATTACH[name]
    store = SoftTargetStore.create(tmp_path / "store", model(), X, verbose=0)
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        store.attach(**{"dataset": X, **arguments})


@pytest.mark.backend("jax", "torch", reason="TensorFlow is the backend")
def test_augment_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.delattr("keras_distill.store.joining", raising=False)
    monkeypatch.setitem(sys.modules, "keras_distill.store.joining", None)
    with pytest.raises(ImportError, match="need TensorFlow"):
        SoftTargetStore.create(tmp_path, model(), X, augment=keep, verbose=0)


@pytest.mark.backend("jax", "torch", reason="TensorFlow has FarmHash")
def test_fingerprints_without_farmhash(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "farmhash", None)
    with pytest.raises(ImportError, match="pip install pyfarmhash"):
        SoftTargetStore.create(tmp_path, model(), X, verbose=0)


def test_opens_only_stores(tmp_path):
    with pytest.raises(ValueError, match="Expected the folder of a"):
        SoftTargetStore(tmp_path / "nothing")
    SoftTargetStore.create(tmp_path / "store", model(), X, verbose=0)
    manifest = tmp_path / "store" / "manifest.json"
    content = shards.read_json(manifest) | {"format_version": 2}
    shards.write_json(manifest, content)
    with pytest.raises(ValueError, match=r"format 1\. Received: format 2"):
        SoftTargetStore(tmp_path / "store")


def fit(targets, classes=3, **compile_with):
    distiller = keras_distill.Distiller(student=model(classes))
    distiller.compile("sgd", **compile_with)
    distiller.fit(X, soft_targets=targets, verbose=0)


LOGITS = model().predict(X, verbose=0)

TOP_K = {
    "k_zero": (
        lambda: keras_distill.top_k_targets(LOGITS, 0),
        r"`k` to be an integer, from 1 to 2\. Received: k=0",
    ),
    "k_all": (
        lambda: keras_distill.top_k_targets(LOGITS, 3),
        r"from 1 to 2\. Received: k=3",
    ),
    "temperatures": (
        lambda: keras_distill.top_k_targets(LOGITS, 1, (-1.0,)),
        r"Received: temperatures=-1\.0",
    ),
    "integers": (
        lambda: keras_distill.top_k_targets(np.arange(6).reshape(2, 3), 1),
        r"floating point logits. Received: logits of dtype int",
    ),
    "dtype": (
        lambda: keras_distill.top_k_targets(LOGITS, 1, dtype="float8"),
        r"Unknown `dtype`.*float8",
    ),
    "different_classes": (
        lambda: fit(keras_distill.top_k_targets(LOGITS, 1), classes=4),
        r"a different number of classes than the student",
    ),
    "too_few_classes": (
        lambda: fit(keras_distill.top_k_targets(LOGITS, 2), classes=2),
        r"fewer classes than the student",
    ),
    "logit_matching": (
        lambda: fit(
            keras_distill.top_k_targets(LOGITS, 1),
            distillation_loss="logit_matching",
        ),
        r"the logits of all classes.*TopKTargets",
    ),
    "axis": (
        lambda: fit(
            keras_distill.top_k_targets(LOGITS, 1),
            distillation_loss=losses.SoftTargetCrossentropy(axis=0),
        ),
        r"classes in the last axis. Received: axis=0",
    ),
}


@pytest.mark.parametrize("name", TOP_K)
def test_top_k(name):
    call, message = TOP_K[name]
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        call()
