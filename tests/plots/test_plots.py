"""The contents of the plots, read from their axes."""

import math
import sys

import keras
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy.special import softmax

import keras_distill
import reference
from keras_distill import plots

matplotlib.use("Agg")

CLASSES = 4


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(scale=3, size=(30, CLASSES))


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, CLASSES, 30)


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6)).astype("float32")
    teacher, student = (
        keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])
        for _ in range(2)
    )
    return keras_distill.compare(
        {"teacher": teacher, "student": student},
        (x, rng.integers(0, 5, 40)),
        latency_batch_sizes=(),
        verbose=0,
    )


def draw(name, logits, labels, report, **kwargs):
    arguments = {
        "accuracy_against_size": (report,),
        "class_similarity": (logits, labels),
        "error_against_examples": ({600: [5, 6], 6000: 3},),
        "error_against_learning_rate": ({0.1: [5, 6], 0.3: 3},),
        "error_against_temperature": ({1: [5, 6], 4: 3, 20: [4, 2, 3]},),
        "gradient_cosine": ({1: [0.5, 0.6], 20: 0.99},),
        "learning_curves": ({"loss": [3.0, 2.0], "val_loss": [3.5, 3.0]},),
        "reliability_diagram": (logits, labels),
        "soft_targets": (logits[:2],),
    }[name]
    return getattr(plots, name)(*arguments, **kwargs)


@pytest.mark.parametrize("name", plots.__all__)
def test_the_figure_is_returned_and_ax_is_used(name, logits, labels, report):
    figure, (left, right) = plt.subplots(1, 2)
    assert draw(name, logits, labels, report, ax=right) is figure
    assert not left.has_data()
    assert not left.child_axes
    assert right.has_data() or right.child_axes
    other = draw(name, logits, labels, report)
    assert other is not figure
    # The figure can be rendered.
    other.canvas.draw()
    pixels = np.asarray(other.canvas.buffer_rgba())[..., :3]
    assert (pixels != 255).any()


def test_soft_targets(logits):
    temperatures = (1.0, 5.0)
    figure = plots.soft_targets(
        logits[:3],
        [2, 0, 1],
        temperatures,
        images=np.zeros((3, 8, 8, 1)),
        class_names=["a", "b", "c", "a long name"],
    )
    (host,) = figure.axes
    images = [ax for ax in host.child_axes if ax.images]
    cells = [ax for ax in host.child_axes if ax.patches]
    assert len(images) == 3
    assert len(cells) == 6
    for number, cell in enumerate(cells):
        row, column = divmod(number, 2)
        np.testing.assert_allclose(
            [bar.get_height() for bar in cell.patches],
            softmax(logits[row] / temperatures[column]),
            rtol=1e-5,
        )
        colors = {bar.get_facecolor() for bar in cell.patches}
        highlighted = cell.patches[[2, 0, 1][row]].get_facecolor()
        others = [
            bar.get_facecolor()
            for position, bar in enumerate(cell.patches)
            if position != [2, 0, 1][row]
        ]
        assert len(colors) == 2
        assert highlighted not in others
    assert [cell.get_title(loc="left") for cell in cells[:2]] == [
        "T = 1",
        "T = 5",
    ]
    # Nothing overlaps.
    boxes = [ax.get_position() for ax in host.child_axes]
    for position, box in enumerate(boxes):
        for other in boxes[position + 1 :]:
            assert not box.overlaps(other)


@pytest.mark.parametrize("labelled", [True, False])
def test_class_similarity(logits, labels, labelled):
    labels = np.where(labels == 3, 0, labels)  # No example of class 3.
    figure = plots.class_similarity(
        logits, labels if labelled else None, temperature=2.0
    )
    shown = figure.axes[0].images[0].get_array()
    p = softmax(logits / 2, -1)
    used = labels if labelled else logits.argmax(-1)
    for row in range(CLASSES):
        for column in range(CLASSES):
            if row == column or not np.any(used == row):
                assert shown.mask[row, column]
            else:
                assert shown[row, column] == pytest.approx(
                    p[used == row, column].mean(), rel=1e-5
                )


def test_reliability_diagram(logits, labels):
    figure = plots.reliability_diagram(logits, labels, num_bins=5)
    ax = figure.axes[0]
    q = softmax(logits, -1)
    confidence, correct = q.max(-1), q.argmax(-1) == labels
    expected = {
        m: correct[(confidence > m / 5) & (confidence <= (m + 1) / 5)].mean()
        for m in range(5)
        if np.any((confidence > m / 5) & (confidence <= (m + 1) / 5))
    }
    bars = {
        round((bar.get_x() + bar.get_width() / 2) * 5 - 0.5): bar.get_height()
        for bar in ax.patches
    }
    assert bars == pytest.approx(expected)
    error = reference.calibration_error(labels, logits, 5)
    assert f"{error:.3f}" in ax.get_title(loc="left")


def test_learning_curves(data, make_model):
    x, y = data
    distiller = keras_distill.Distiller(
        student=make_model(), teacher=make_model(seed=5)
    )
    distiller.compile(
        "sgd",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss=["soft_target_crossentropy", "logit_matching"],
        metrics=["accuracy"],
        distillation_metrics=["soft_target_entropy"],
        run_eagerly=True,
    )
    history = distiller.fit(
        x,
        y,
        initial_epoch=4,
        epochs=8,
        validation_data=(x, y),
        validation_freq=2,
        verbose=0,
    )
    lines = {
        line.get_label(): line
        for line in plots.learning_curves(history).axes[0].lines
    }
    assert list(lines) == [
        "loss",
        "val_loss",
        "soft_loss",
        "val_soft_loss",
        "hard_loss",
        "val_hard_loss",
        "logit_matching",
        "val_logit_matching",
        "soft_target_crossentropy",
        "val_soft_target_crossentropy",
    ]
    for name, line in lines.items():
        epochs = [6, 8] if name.startswith("val_") else [5, 6, 7, 8]
        assert list(line.get_xdata()) == epochs
        np.testing.assert_array_equal(line.get_ydata(), history.history[name])
    with pytest.raises(ValueError, match="quantities"):
        plots.learning_curves({"before the first epoch": {}})
    many = plots.learning_curves(
        {str(number): history for number in range(70)}, quantities=["loss"]
    )
    assert len(many.axes[0].lines) == 140
    several = plots.learning_curves(
        {"first": history, "second": history.history},
        quantities=["accuracy"],
        validation_freq=2,
    )
    assert [line.get_label() for line in several.axes[0].lines] == [
        "first accuracy",
        "first val_accuracy",
        "second accuracy",
        "second val_accuracy",
    ]


def test_error_against_temperature():
    figure = plots.error_against_temperature(
        {
            "wide": {20: [7, 5], 1: [9, 9, 6], math.inf: 3},
            "narrow": {4: 3.0, 1: 8},
        }
    )
    wide, narrow = figure.axes[0].lines
    assert list(wide.get_xdata())[:2] == [1, 20]
    # Infinity is the temperature of logit matching.
    assert wide.get_xdata()[2] > 20
    assert list(wide.get_ydata()) == [9, 6, 3]
    assert list(narrow.get_ydata()) == [8, 3]
    labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert labels == ["1", "4", "20", "∞"]


@pytest.mark.parametrize(
    ("draw", "xlabel", "ticks"),
    [
        (plots.error_against_examples, "training examples", ["600", "6,000"]),
        (plots.error_against_learning_rate, "learning rate", ["0.1", "0.3"]),
        (plots.gradient_cosine, "temperature", ["1", "20"]),
    ],
)
def test_series(draw, xlabel, ticks):
    low, high = (float(tick.replace(",", "")) for tick in ticks)
    if draw is plots.error_against_examples:
        low, high = int(low), int(high)
    figure = draw({"labels": {high: [3, 1], low: 5}, "soft": {low: [4, 9, 6]}})
    (ax,) = figure.axes
    labels, soft = ax.lines[:2]
    assert list(labels.get_xdata()) == [low, high]
    assert list(labels.get_ydata()) == [5, 2]
    assert list(soft.get_ydata()) == [6]
    band, _ = ax.collections
    assert band.get_paths()[0].get_extents().ymin == 1
    assert band.get_paths()[0].get_extents().ymax == 5
    assert ax.get_xlabel() == xlabel
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ticks
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["labels", "soft"]


def test_accuracy_against_size(report):
    figure = report.plot()
    ax = figure.axes[0]
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["teacher", "student"]
    for text, model in zip(ax.texts, report.models.values(), strict=True):
        assert text.xy == (model.parameters, 100 * model.accuracy)
    segments = [
        container.lines[2][0].get_segments()[0][:, 1] / 100
        for container in ax.containers
    ]
    for segment, model in zip(segments, report.models.values(), strict=True):
        np.testing.assert_allclose(segment, model.accuracy_interval)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.soft_targets([1, 2]), r"shape \(2,\)"),
        (lambda: plots.soft_targets(np.ones((2, 3), int)), "dtype int"),
        (
            lambda: plots.soft_targets(np.ones((2, 3)), class_names=["a"]),
            "3 names",
        ),
        (
            lambda: plots.soft_targets(np.ones((2, 3)), images=[1]),
            "`images` to be 2",
        ),
        (
            lambda: plots.soft_targets(np.ones((2, 3)), temperatures=[0]),
            "Received: temperatures=0",
        ),
        (
            lambda: plots.class_similarity(np.ones((2, 3)), [1, 2, 3]),
            "2 class ids",
        ),
        (
            lambda: plots.reliability_diagram(
                np.ones((2, 3)), [1, 2], num_bins=0
            ),
            "num_bins=0",
        ),
        *(
            (
                lambda labels=labels: plots.reliability_diagram(
                    np.ones((2, 3)), labels
                ),
                f"from 0 to 2. Received: a label of {labels[0]}",
            )
            for labels in ([-1, 0], [3, 0], [0.5, 1])
        ),
        (lambda: plots.soft_targets(np.ones((0, 3))), r"shape \(0, 3\)"),
        (
            lambda: plots.soft_targets(np.ones((2, 3)), temperatures=()),
            r"Received: temperatures=\(\)",
        ),
        (
            lambda: plots.learning_curves(
                {"loss": [1.0] * 8, "val_loss": [1.0] * 2}
            ),
            r"2 values .* in 8 epochs.*validation_freq=None",
        ),
        (
            lambda: plots.learning_curves(
                {"loss": [1.0] * 8, "val_loss": [1.0] * 2}, validation_freq=2
            ),
            r"2 values .* in 8 epochs.*validation_freq=2",
        ),
        (
            lambda: plots.learning_curves(
                {"loss": [1.0], "val_loss": [1.0]}, validation_freq=0
            ),
            "validation_freq=0",
        ),
        (lambda: plots.learning_curves({}), "Received: {}"),
        (
            lambda: plots.learning_curves({"accuracy": [1.0]}),
            "Expected `quantities`",
        ),
        (
            lambda: plots.learning_curves({"loss": [1.0]}, ["los"]),
            r"Received: \['los'\]",
        ),
        (lambda: plots.error_against_temperature([]), r"Received: \[\]"),
        (
            lambda: plots.error_against_temperature({0: 3}),
            "Received: errors=0",
        ),
        (lambda: plots.error_against_examples({}), "Received: {}"),
        (lambda: plots.error_against_examples({0: 3}), "errors=0"),
        (lambda: plots.error_against_examples({5: math.nan}), "errors=nan"),
        (lambda: plots.error_against_examples({5: "3"}), "errors='3'"),
        (
            lambda: plots.error_against_examples({"a": {}}),
            "from names to such dicts",
        ),
        (
            lambda: plots.error_against_temperature({1: {4: 3}, 20: 5}),
            r"Received: \{1: \{4: 3\}, 20: 5\}",
        ),
        (
            lambda: plots.error_against_learning_rate({math.inf: 3}),
            "errors=inf",
        ),
        (lambda: plots.gradient_cosine({"a": {"b": 3}}), "cosines='b'"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_error_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"keras-distill\[plots\]"):
        plots.learning_curves({"loss": [1.0]})


def test_error_without_pandas(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"keras-distill\[reports\]"):
        report.to_dataframe()


@pytest.mark.parametrize(
    ("epochs", "validation_freq", "expected"),
    [
        (8, 3, [3, 6]),
        (8, 4, [4, 8]),
        (5, 3, [3]),
        (10, [1, 5, 10], [1, 5, 10]),
        # Only the interval 2 gives three epochs.
        (7, None, [2, 4, 6]),
        (3, None, [1, 2, 3]),
    ],
)
def test_epochs_of_validation(epochs, validation_freq, expected):
    logs = {
        "loss": list(range(epochs)),
        "val_loss": list(range(len(expected))),
    }
    figure = plots.learning_curves(logs, validation_freq=validation_freq)
    loss, val_loss = figure.axes[0].lines
    assert list(loss.get_xdata()) == list(range(1, epochs + 1))
    assert list(val_loss.get_xdata()) == expected


def test_warns_about_probabilities():
    with pytest.warns(UserWarning, match="look like probabilities"):
        plots.reliability_diagram(np.full((4, 2), 0.5), [0, 1, 0, 1])


def test_half_precision():
    logits = np.random.default_rng(0).normal(size=(6, 3))
    half = logits.astype("bfloat16")
    figures = [
        plots.reliability_diagram(array, [0, 1, 2, 0, 1, 2])
        for array in (half, half.astype("float64"))
    ]
    titles = [figure.axes[0].get_title(loc="left") for figure in figures]
    assert titles[0] == titles[1] != ""


def test_class_names_that_are_numbers():
    figure = plots.class_similarity(
        np.eye(3) * 4.0, [0, 1, 2], class_names=[10, 20, 30]
    )
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ["10", "20", "30"]
