"""Random small models of many kinds, as users build them."""

import typing

import keras
import numpy as np

FEATURES, CHANNELS, STEPS, TOKENS = 6, 2, 5, 9
KINDS = ("dense", "shared", "convolutional", "recurrent", "tokens", "images")


class Architecture(typing.NamedTuple):
    """What determines a model except for its weights."""

    kind: str
    # The number of classes of each output.
    classes: tuple
    # An output for each position of a sequence.
    positions: bool
    units: int
    activation: str
    dropout: float
    normalization: str | None
    l2: float
    activity_l2: float
    # How the outputs become probabilities: with an activation, a layer, or not.
    softmax: str | None


def draw_architecture(rng, kind, classes, positions, softmax) -> Architecture:
    """Returns an architecture of a kind, with random details."""
    return Architecture(
        kind=kind,
        classes=classes,
        positions=positions,
        units=int(rng.integers(3, 9)),
        activation=str(rng.choice(["relu", "tanh", "gelu", "sigmoid"])),
        dropout=float(rng.choice([0.0, 0.0, 0.3])),
        normalization=[None, None, "batch", "layer"][rng.integers(4)],
        l2=float(rng.choice([0.0, 0.0, 0.01])),
        activity_l2=float(rng.choice([0.0, 0.0, 0.01])),
        softmax=softmax,
    )


def build(architecture: Architecture, seed: int) -> keras.Model:
    """Returns the model of a architecture. The seed determines the weights."""
    layers = keras.layers
    keras.utils.set_random_seed(seed)
    l2 = keras.regularizers.L2
    dense = {
        "activation": architecture.activation,
        "kernel_regularizer": l2(architecture.l2) if architecture.l2 else None,
        "activity_regularizer": l2(architecture.activity_l2)
        if architecture.activity_l2
        else None,
    }
    if architecture.kind == "shared":
        inputs = [keras.Input((FEATURES,), name=name) for name in "ab"]
        layer = layers.Dense(architecture.units, **dense)
        x = layers.Concatenate()([layer(tensor) for tensor in inputs])
    elif architecture.kind == "dense":
        inputs = keras.Input((FEATURES,))
        x = layers.Dense(architecture.units, **dense)(inputs)
    elif architecture.kind == "convolutional":
        inputs = keras.Input((STEPS, CHANNELS))
        x = layers.Conv1D(architecture.units, 3, padding="same", **dense)(
            inputs
        )
        x = x if architecture.positions else layers.Flatten()(x)
    elif architecture.kind == "images":
        inputs = keras.Input((STEPS, STEPS, CHANNELS))
        x = layers.Conv2D(architecture.units, 3, **dense)(inputs)
        x = layers.GlobalAveragePooling2D()(x)
    elif architecture.kind == "recurrent":
        inputs = keras.Input((STEPS, CHANNELS))
        x = layers.GRU(
            architecture.units, return_sequences=architecture.positions
        )(inputs)
    else:
        inputs = keras.Input((STEPS,), dtype="int32")
        x = layers.Embedding(TOKENS, architecture.units, mask_zero=True)(inputs)
        x = layers.LSTM(
            architecture.units, return_sequences=architecture.positions
        )(x)
    if architecture.normalization == "batch":
        x = layers.BatchNormalization(momentum=0.8)(x)
    elif architecture.normalization == "layer":
        x = layers.LayerNormalization()(x)
    if architecture.dropout:
        x = layers.Dropout(architecture.dropout, seed=seed)(x)
    outputs = {}
    for number, classes in enumerate(architecture.classes):
        name = f"out{number}"
        if architecture.softmax == "activation":
            output = layers.Dense(classes, activation="softmax", name=name)(x)
        elif architecture.softmax == "layer":
            output = layers.Softmax(name=name)(layers.Dense(classes)(x))
        else:
            output = layers.Dense(classes, name=name)(x)
        outputs[name] = output
    if len(outputs) == 1:
        outputs = outputs["out0"]
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        # Larger than by default: logits a few units apart.
        noise = rng.normal(scale=0.4, size=weight.shape)
        weight.assign(weight + noise.astype("float32"))
    return model


def draw_inputs(rng, architecture: Architecture, count: int):
    """Returns inputs for the models of an architecture."""
    if architecture.kind == "tokens":
        tokens = rng.integers(1, TOKENS, (count, STEPS))
        lengths = rng.integers(1, STEPS + 1, (count, 1))
        return np.where(np.arange(STEPS) < lengths, tokens, 0).astype("int32")
    shapes = {
        "dense": (FEATURES,),
        "shared": (FEATURES,),
        "images": (STEPS, STEPS, CHANNELS),
    }
    shape = (count, *shapes.get(architecture.kind, (STEPS, CHANNELS)))

    def draw():
        return rng.normal(size=shape).astype("float32")

    return (
        {"a": draw(), "b": draw()} if architecture.kind == "shared" else draw()
    )
