"""The binary format of the soft targets of one example.

A record is an element of a NumPy array with a structured dtype, little-endian
and without padding. It contains the fingerprint of the input, and for each
output of the teacher:

    dense, float32   logits       float32, of the output's shape
    dense, float16   largest      float32, one for each position
                     logits       float16: the logits minus `largest`
    top-k            logits       float16 or float32, minus the largest
                     classes      the smallest sufficient unsigned integers
                     rest         float32, one for each temperature

In float16, the logits of probable classes keep their digits, even if all logits
are large, because only the difference to the largest logit is rounded.
"""

import json

import keras
import numpy as np

from keras_distill.targets import EnsembleTargets
from keras_distill.targets import TopKTargets
from keras_distill.targets import flatten_outputs
from keras_distill.targets import map_outputs

_FINGERPRINT = "fingerprint"


class RecordFormat:
    """Encodes soft targets as records, and decodes records.

    `structure` is the structure of the teacher's outputs in JSON, with
    positions in flat order, such as `0` or `{"color": 0, "shape": 1}`. `shapes`
    are the shapes of the outputs without the batch. `top_k=None` means all
    logits, `temperatures=None` all temperatures.
    """

    def __init__(self, structure, shapes, dtype: str, top_k, temperatures):
        self.structure = structure
        self.shapes = [tuple(shape) for shape in shapes]
        self.dtype = dtype
        self.top_k = top_k
        self.temperatures = temperatures and tuple(temperatures)
        self.record = np.dtype(
            [
                (_FINGERPRINT, "<u4"),
                *(
                    (f"{name}_{output}", *field)
                    for output, shape in enumerate(self.shapes)
                    for name, *field in self._fields(shape)
                ),
            ]
        )

    @classmethod
    def from_outputs(cls, outputs, dtype: str, top_k, temperatures):
        """Returns the format for a batch of arrays or `TopKTargets`."""
        shapes: list[tuple] = []

        def number(output):
            shape = np.shape(output[0] if top_k else output)
            if len(shape) < 2:
                raise ValueError(
                    "Expected the teacher's outputs to be of shape (batch, "
                    f"..., classes). Received: shape {shape}"
                )
            shape = shape[1:]
            classes = int(output.num_classes.flat[0]) if top_k else shape[-1]
            shapes.append((*shape[:-1], classes))
            return len(shapes) - 1

        structure = map_outputs(number, outputs)
        # Tuples become lists, as in the manifest.
        structure = json.loads(json.dumps(structure))
        return cls(structure, shapes, dtype, top_k, temperatures)

    @classmethod
    def from_config(cls, config: dict):
        """Returns the format in a manifest, which contains the config."""
        names = ("structure", "shapes", "dtype", "top_k", "temperatures")
        return cls(**{name: config[name] for name in names})

    def get_config(self) -> dict:
        return {
            "structure": self.structure,
            "shapes": [list(shape) for shape in self.shapes],
            "dtype": self.dtype,
            "top_k": self.top_k,
            "temperatures": self.temperatures and list(self.temperatures),
        }

    def _fields(self, shape):
        """Lists the name, dtype and shape of the fields of an output."""
        width = np.dtype(self.dtype).newbyteorder("<").str
        if self.top_k is not None:
            kept = (*shape[:-1], self.top_k)
            ids = np.min_scalar_type(shape[-1] - 1).newbyteorder("<").str
            return [
                ("logits", width, kept),
                ("classes", ids, kept),
                ("rest", "<f4", (*shape[:-1], len(self.temperatures))),
            ]
        if self.dtype == "float32":
            return [("logits", width, shape)]
        return [("largest", "<f4", shape[:-1]), ("logits", width, shape)]

    def encode(self, outputs, fingerprints, position: int):
        """Returns the records of a batch that starts at `position`."""
        records = np.empty(len(fingerprints), self.record)
        records[_FINGERPRINT] = fingerprints
        for number, (output, shape) in enumerate(
            zip(flatten_outputs(outputs), self.shapes, strict=True)
        ):
            logits = output.logits if self.top_k else output
            _check_shape(
                logits,
                (len(records), *shape[:-1], self.top_k or shape[-1]),
            )
            with np.errstate(over="ignore"):
                logits = logits.astype("float32", copy=False)
            if self.top_k:
                _check_finite(logits, position)
                _check_finite(output.rest, position)
                records[f"classes_{number}"] = output.classes
                records[f"rest_{number}"] = output.rest
            elif self.dtype == "float32":
                _check_finite(logits, position)
            else:
                largest, logits = _split(logits, position)
                records[f"largest_{number}"] = largest
            records[f"logits_{number}"] = logits
        return records

    def decode(self, records):
        """Returns the soft targets, in the structure of the outputs."""
        flat = [
            self._decode_output(records, number, shape)
            for number, shape in enumerate(self.shapes)
        ]
        return keras.tree.map_structure(flat.__getitem__, self.structure)

    def _decode_output(self, records, number, shape):
        logits = records[f"logits_{number}"].astype("float32")
        if self.top_k is not None:
            rest = records[f"rest_{number}"]
            return TopKTargets(
                logits,
                records[f"classes_{number}"].astype("int32"),
                rest.astype("float32"),
                self._repeat_temperatures(rest.shape),
                np.full(rest.shape[:-1], shape[-1], "int32"),
            )
        if self.dtype == "float16":
            logits += records[f"largest_{number}"][..., np.newaxis]
        if self.temperatures is None:
            return logits
        return EnsembleTargets(
            logits, self._repeat_temperatures((*records.shape, 1))
        )

    def _repeat_temperatures(self, shape):
        return np.broadcast_to(np.array(self.temperatures, "float32"), shape)


def get_fingerprints(records):
    """Returns the fingerprints of the inputs, uint32 of shape `(batch,)`."""
    return records[_FINGERPRINT]


def _split(logits, position):
    """Returns the largest logits, and the differences to them in float16."""
    largest = np.max(logits, axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):
        differences = (logits - largest[..., np.newaxis]).astype("float16")
    finite = np.isfinite(differences)
    if not finite.all():
        _check_finite(logits, position)
        raise ValueError(
            "float16 cannot represent the logits of example "
            f"{_first(~finite, position)} (the first is 0), which range from "
            f"{np.min(logits):.4g} to {np.max(logits):.4g}. "
            'Pass `dtype="float32"`.'
        )
    return largest, differences


def _check_finite(logits, position) -> None:
    finite = np.isfinite(logits)
    if not finite.all():
        raise ValueError(
            "The soft targets are not finite: the teacher's logits for example "
            f"{_first(~finite, position)} (the first is 0) contain NaN or "
            "infinity. Check the inputs. A teacher in float16 overflows above "
            "65504."
        )


def _check_shape(logits, shape) -> None:
    if len(logits) != shape[0]:
        raise ValueError(
            f"Expected {shape[0]} outputs of the teacher, one for each "
            "example of a batch. If the dataset contains single examples, pass "
            f"`batch_size`. Received: outputs of shape {logits.shape}"
        )
    if logits.shape != shape:
        raise ValueError(
            "Expected the teacher's outputs to have the same shape for every "
            f"example. Received: {logits.shape[1:]} after {shape[1:]}"
        )


def _first(wrong, position) -> int:
    return position + int(np.argmax(wrong.reshape(len(wrong), -1).any(-1)))
