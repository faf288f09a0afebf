"""The binary format of the soft targets of one example.

`docs/guides/store_format.md` lists the fields of a record. In float16, the
logits of probable classes keep their digits, even if all logits are large,
because only the difference to the largest logit is rounded.
"""

import itertools
import json
import typing

import keras
import numpy as np

from keras_distill.targets import EnsembleTargets
from keras_distill.targets import TopKTargets
from keras_distill.targets import flatten_outputs
from keras_distill.targets import map_outputs
from keras_distill.validation import check_finite
from keras_distill.validation import find_first


class RecordFormat(typing.NamedTuple):
    """Encodes soft targets as records, and decodes records.

    `structure` is the structure of the teacher's outputs in JSON, with
    positions in flat order, such as `0` or `{"color": 0, "shape": 1}`. `shapes`
    are the shapes of the outputs without the batch. `top_k=None` means all
    logits, `temperatures=None` all temperatures.
    """

    structure: typing.Any
    shapes: list
    dtype: str
    top_k: int | None
    temperatures: typing.Any

    @classmethod
    def from_outputs(cls, outputs, storage):
        """Returns the format for a batch of arrays or `TopKTargets`."""
        numbers = itertools.count()
        structure = map_outputs(lambda _: next(numbers), outputs)
        shapes = [
            _find_shape(output, storage.top_k)
            for output in flatten_outputs(outputs)
        ]
        top_k, dtype, temperatures, *_ = storage
        config = [structure, shapes, dtype, top_k, temperatures]
        # Tuples become lists, as in the manifest.
        return cls(*json.loads(json.dumps(config)))

    @classmethod
    def from_config(cls, config: dict):
        """Returns the format in a manifest, which contains the config."""
        return cls(*map(config.__getitem__, cls._fields))

    @property
    def record(self):
        """The dtype of a record."""
        fields: list[tuple] = [("fingerprint", "<u4")]
        width = np.dtype(self.dtype).newbyteorder("<")
        for number, (*positions, classes) in enumerate(self.shapes):
            kept = (*positions, self.top_k or classes)
            if self.dtype == "float16" and not self.top_k:
                fields.append((f"largest_{number}", "<f4", (*positions,)))
            fields.append((f"logits_{number}", width, kept))
            if self.top_k:
                ids = np.min_scalar_type(classes - 1).newbyteorder("<")
                rest = (*positions, len(self.temperatures))
                fields.append((f"classes_{number}", ids, kept))
                fields.append((f"rest_{number}", "<f4", rest))
        return np.dtype(fields)

    def encode(self, outputs, fingerprints, position: int):
        """Returns the records of a batch that starts at `position`."""
        records = np.empty(len(fingerprints), self.record)
        records["fingerprint"] = fingerprints
        for number, output in enumerate(flatten_outputs(outputs)):
            logits = output.logits if self.top_k else output
            _check_shape(logits, records[f"logits_{number}"].shape)
            with np.errstate(over="ignore"):
                logits = logits.astype("float32", copy=False)
            if self.dtype == "float16" and not self.top_k:
                largest, logits = _split(logits, position)
                records[f"largest_{number}"] = largest
            else:
                check_finite(logits, position)
            if self.top_k:
                check_finite(output.rest, position)
                records[f"classes_{number}"] = output.classes
                records[f"rest_{number}"] = output.rest
            records[f"logits_{number}"] = logits
        return records

    def decode(self, records):
        """Returns the soft targets, in the structure of the outputs."""
        return keras.tree.map_structure(
            lambda number: self._decode_output(records, number), self.structure
        )

    def _decode_output(self, records, number):
        logits = records[f"logits_{number}"].astype("float32")
        temperatures = np.array(self.temperatures, "float32")
        if self.top_k:
            rest = records[f"rest_{number}"].astype("float32")
            return TopKTargets(
                logits,
                records[f"classes_{number}"].astype("int32"),
                rest,
                np.broadcast_to(temperatures, rest.shape),
                np.full(rest.shape[:-1], self.shapes[number][-1], "int32"),
            )
        if self.dtype == "float16":
            logits += records[f"largest_{number}"][..., np.newaxis]
        if self.temperatures is None:
            return logits
        shape = (*records.shape, 1)
        return EnsembleTargets(logits, np.broadcast_to(temperatures, shape))


def _find_shape(output, top_k):
    """Returns the shape of an output with all classes, without the batch."""
    shape = np.shape(output.logits if top_k else output)
    if len(shape) < 2 or not shape[-1]:
        raise ValueError(
            "Expected the teacher's outputs to be of shape (batch, ..., "
            f"classes). Received: shape {shape}"
        )
    classes = output.num_classes.flat[0] if top_k else shape[-1]
    return (*shape[1:-1], int(classes))


def _split(logits, position):
    """Returns the largest logits, and the differences to them in float16."""
    largest = np.max(logits, axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):
        differences = (logits - largest[..., np.newaxis]).astype("float16")
    finite = np.isfinite(differences)
    if not finite.all():
        check_finite(logits, position)
        raise ValueError(
            "float16 cannot represent the logits of example "
            f"{find_first(~finite, position)} (the first is 0). Pass "
            f'`dtype="float32"`. Received: logits from {np.min(logits):.4g} to '
            f"{np.max(logits):.4g}"
        )
    return largest, differences


def _check_shape(logits, shape) -> None:
    if logits.shape != shape:
        raise ValueError(
            "Expected the teacher's outputs to have the same shape for every "
            f"example. Received: {logits.shape[1:]} after {shape[1:]}"
        )
