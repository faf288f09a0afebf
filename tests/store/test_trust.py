"""Stores from a stranger, and folders with other files."""

import json
import os
import pathlib

import filelock
import keras
import numpy as np
import pytest

from keras_distill import SoftTargetStore
from keras_distill.store import shards

X = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")


def make_teacher():
    initializer = keras.initializers.RandomNormal(seed=1)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, kernel_initializer=initializer),
        ]
    )


def create(path, **kwargs):
    return SoftTargetStore.create(
        path,
        make_teacher(),
        X,
        **{"batch_size": 4, "examples_per_shard": 8, "verbose": 0, **kwargs},
    )


@pytest.fixture
def folder(tmp_path):
    create(tmp_path / "store")
    return tmp_path / "store"


def edit(folder, change):
    """Changes the manifest as somebody who knows its format can."""
    path = folder / shards.MANIFEST
    content = shards.read_json(path)
    change(content)
    shards.write_json(path, content)


KEYS = (
    *("teacher", "teacher_id", "from_logits", "structure", "shapes", "dtype"),
    *("top_k", "temperatures", "inputs", "views", "seed", "workers"),
    *("examples_per_shard", "examples", "shards"),
)


@pytest.mark.parametrize("key", KEYS)
def test_a_manifest_without_a_key(folder, key):
    edit(folder, lambda content: content.pop(key))
    if key == "shards":
        with pytest.raises(ValueError, match="not complete"):
            SoftTargetStore(folder)
        return
    with pytest.raises(shards.StoreError, match=f"Received: {key}=None"):
        SoftTargetStore(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, {"unexpected": -1.5}) for key in KEYS),
        *((key, [[-1]]) for key in KEYS if key != "structure"),
        ("shapes", [[]]),
        ("shapes", [[2**60]]),
        ("shapes", [[5], [5]]),
        ("structure", 1),
        ("structure", [0, 0]),
        ("dtype", "object"),
        ("top_k", 2),
        ("views", True),
        ("views", 10**30),
        ("examples", 0),
        ("examples", 10**15),
        ("examples_per_shard", 1),
        ("temperatures", ["4"]),
        ("temperatures", [1.0, 4.0]),
    ],
)
def test_a_manifest_with_a_wrong_value(folder, key, value):
    """Before anything is allocated."""
    edit(folder, lambda content: content.update({key: value}))
    with pytest.raises(shards.StoreError, match="to describe a store"):
        SoftTargetStore(folder)


@pytest.mark.parametrize("key", ["examples", "bytes", "digest"])
@pytest.mark.parametrize("value", [None, -1, 10**15, "../../etc/passwd"])
def test_a_manifest_with_a_wrong_shard(folder, key, value):
    def change(content):
        content["shards"][1][key] = value

    edit(folder, change)
    with pytest.raises(shards.StoreError):
        SoftTargetStore(folder)[:]


def test_the_manifest_names_no_files(folder, tmp_path):
    """A name in it does not matter."""
    outside = tmp_path / "outside.npy"
    (folder / "soft_targets-00001.npy").rename(outside)

    def change(content):
        content["shards"][1]["file"] = "../outside.npy"

    edit(folder, change)
    with pytest.raises(shards.StoreError, match=r"soft_targets-00001\.npy is"):
        SoftTargetStore(folder)


@pytest.mark.skipif(os.name != "posix", reason="needs device files")
@pytest.mark.parametrize("name", ["manifest.json", "soft_targets-00001.npy"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_only_regular_files_are_read(folder, name, kind):
    path = folder / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(
        shards.StoreError, match=r"regular file|expected a file"
    ):
        SoftTargetStore(folder)
    with pytest.raises(
        shards.StoreError, match=r"regular file|expected a file"
    ):
        create(folder)


@pytest.mark.parametrize("content", ["[]", "null", "{}", "5", '"a"', "{", "\0"])
def test_a_manifest_that_is_no_manifest(folder, content):
    (folder / shards.MANIFEST).write_text(content)
    with pytest.raises(shards.StoreError, match="damaged"):
        SoftTargetStore(folder)


def test_an_entry_of_a_stranger(tmp_path):
    """In a store that is not complete."""
    folder = tmp_path / "store"
    create(folder, shard=(0, 2))
    path = folder / "soft_targets-00000.json"
    shards.write_json(path, {"examples": "8"})
    with pytest.raises(shards.StoreError, match="entry of shard 0"):
        create(folder, shard=(1, 2))


def test_copies_of_a_synchronized_folder_are_ignored(tmp_path):
    folder = tmp_path / "store"
    create(folder, shard=(0, 2))
    entry = folder / "soft_targets-00000.json"
    copies = [
        folder / "soft_targets-00000 (conflict).json",
        folder / "soft_targets-00001-laptop.json",
        folder / "manifest (1).json",
    ]
    for copy in copies:
        copy.write_bytes(entry.read_bytes())
    store = create(folder, shard=(1, 2))
    np.testing.assert_array_equal(store[:], create(tmp_path / "other")[:])
    assert all(copy.exists() for copy in copies)


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_links_in_the_place_of_unfinished_files_are_not_followed(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in (
        "soft_targets-00000.partial",
        ".manifest.json.partial",
        ".soft_targets-00000.json.partial",
    ):
        (folder / name).symlink_to(victim)
    create(folder)
    assert victim.read_text() == "precious"
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_a_complete_store_needs_no_writing(folder, monkeypatch):
    """It can be on a read-only disk."""

    def fail(*args, **kwargs):
        raise PermissionError("read-only")

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    monkeypatch.setattr(pathlib.Path, "unlink", fail)
    monkeypatch.setattr(os, "replace", fail)
    expected = SoftTargetStore(folder)[:]
    np.testing.assert_array_equal(create(folder)[:], expected)


def test_the_digest_covers_the_manifest(folder):
    path = folder / shards.MANIFEST
    content = json.loads(path.read_text())
    content["from_logits"] = False
    path.write_text(json.dumps(content))
    with pytest.raises(shards.StoreError, match="digest"):
        SoftTargetStore(folder)
