"""The paper's section on MNIST, at a tiny scale."""

import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

import data_sets
from reproductions.common import training
from reproductions.mnist import data
from reproductions.mnist import runs
from reproductions.mnist.experiments import ALL as EXPERIMENTS
from reproductions.mnist.experiments import gradients
from reproductions.mnist.experiments import search
from reproductions.tests.narrow_mnist import mnist

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "reproductions" / "mnist" / "results"


pytestmark = data_sets.needs("mnist")

EQUAL = "biases matched to equal frequencies"
PAPER_SHIFT = "biases shifted by what the paper shifts them"


def call(output, *arguments):
    options = f"--scale tiny --workers 1 --output {output}"
    return mnist.main([*options.split(), *arguments])


def find_difference(first, second):
    """Returns by how much the weights in two files differ, as a share."""
    ours, theirs = (
        np.concatenate([each.ravel() for each in model.get_weights()])
        for model in map(keras.models.load_model, (first, second))
    )
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("mnist") / "new" / "folder"


@pytest.fixture(scope="module")
def results(output):
    names = ("errors", "missing-classes", "logit-matching")
    return call(output, *names)


def test_distilled_beats_labels(results):
    models = results["experiments"]["errors"]["models"]
    errors = {name: each["errors"][0] for name, each in models.items()}
    assert list(errors) == [
        "teacher",
        "student, labels",
        "student, distilled",
        "student, labels, jitter",
        "student, distilled, jitter",
    ]
    assert errors["teacher"] < errors["student, labels"] < 2000
    assert errors["student, distilled"] < errors["student, labels"]
    # With jitter, too, it is nearer to a teacher that is hardly better here
    # than what labels of shifted images teach.
    assert errors["student, distilled, jitter"] < errors["student, labels"]
    divergence = {
        name: each["teacher_kl_divergence"][0] for name, each in models.items()
    }
    assert (
        divergence["student, distilled, jitter"]
        < divergence["student, labels, jitter"] / 1.5
    )
    agreement = models["student, distilled"]["teacher_agreement"]
    assert agreement > models["student, labels"]["teacher_agreement"]


def test_the_bias_brings_back_the_class_that_was_missing(results):
    (found,) = results["experiments"]["missing-classes"]["without 3"]
    before = found["as trained"]
    for way, after in found.items():
        assert len(after["shifts"]) == 10
        # The paper's shift is that of another student, and equal frequencies
        # are not those of MNIST.
        if way in ("as trained", PAPER_SHIFT):
            continue
        assert after["shift"] > 0
        assert after["unseen_errors"] < 0.7 * before["unseen_errors"]
        if way != EQUAL:
            assert after["unseen_errors"] < 0.6 * before["unseen_errors"]
            assert after["errors"] < before["errors"]


def test_the_shift_of_the_paper(results):
    cases = results["experiments"]["missing-classes"]
    for case, classes, shift in (
        ("without 3", [3], 3.5),
        ("only 7 and 8", [7, 8], -7.6),
    ):
        expected = np.zeros(10)
        expected[classes] = shift
        assert cases[case][0][PAPER_SHIFT]["shifts"] == expected.tolist()


def test_no_labels_are_needed_for_the_bias(results):
    for case, size in {"without 3": 1.0, "only 7 and 8": 1.0}.items():
        (found,) = results["experiments"]["missing-classes"][case]
        tuned = found["biases tuned on the images judged on"]
        for prior in (
            "the frequencies of the classes",
            "what the teacher says",
        ):
            matched = found[f"biases matched to {prior}"]
            assert matched["shift"] == pytest.approx(tuned["shift"], abs=size)
            # It sets all biases, the other way that of the missing ones alone.
            assert matched["errors"] < 1.1 * tuned["errors"]
            assert matched["errors"] < found["as trained"]["errors"]


def test_errors_add_up(results):
    labels = data.load(100, "test")[1].labels
    cases = results["experiments"]["missing-classes"]
    for case, unseen in {
        "without 3": [3],
        "only 7 and 8": [0, 1, 2, 3, 4, 5, 6, 9],
    }.items():
        for found in cases[case][0].values():
            count = np.sum(np.isin(labels, unseen))
            wrong = count * (1 - found["unseen"] / 100)
            assert found["unseen_errors"] == pytest.approx(wrong)
            wrong += (10000 - count) * (1 - found["seen"] / 100)
            assert found["errors"] == pytest.approx(wrong)


def test_high_temperatures_turn_into_logit_matching(results):
    for row in results["experiments"]["logit-matching"].values():
        cosines = [row[t][0] for t in ("4", "20", "100", "1000")]
        assert cosines == sorted(cosines)
        assert cosines[1] > 0.95
        assert cosines[-1] == pytest.approx(1, abs=1e-4)


def test_results_are_written(results, output):
    folder = output / "tiny" / "test"
    written = json.loads((folder / "results.json").read_text())
    assert written == json.loads(json.dumps(results))
    assert written["seeds"] == [0]
    assert written["images"] == {"trained on": 1920, "judged on": 10000}
    assert written["time"]["tasks"] == 7
    assert written["time"]["minutes"] > 0
    assert written["settings"]["teacher"]["max_norm"] == 2.0
    assert {"keras", "tensorflow", "keras_distill"} <= set(written["versions"])
    for name in ("errors", "missing-classes", "logit-matching"):
        assert (folder / f"{name}.md").read_text().startswith("| ")
    paper = (folder / "paper.md").read_text()
    errors = results["experiments"]["errors"]["models"]["teacher"]["errors"]
    assert f"| teacher | 67 | {errors[0]} |" in paper
    (found,) = results["experiments"]["missing-classes"]["only 7 and 8"]
    percent = found["as trained"]["errors"] / 100
    assert f"as trained | 47.3 % | {percent:.1f} % |" in paper
    picture = (folder / "logit_matching.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")


def test_nothing_is_trained_twice(results, output, capsys):
    models = {
        path: path.stat().st_mtime_ns
        for path in output.glob("tiny/runs/*/model.keras")
    }
    assert len(models) >= results["time"]["tasks"]
    again = call(output, "logit-matching")
    assert "tasks" not in capsys.readouterr().out
    # The other experiments are not forgotten.
    assert again == json.loads(json.dumps(results))
    for path, modified in models.items():
        assert path.stat().st_mtime_ns == modified
        assert not (path.parent / "backup").exists()


def test_other_experiments(output, results, monkeypatch):
    monkeypatch.setattr(
        EXPERIMENTS["temperatures"], "TEMPERATURES", (math.inf,)
    )
    monkeypatch.setattr(EXPERIMENTS["temperatures"], "WIDTHS", {100: 2})
    monkeypatch.setattr(EXPERIMENTS["fractions"], "FRACTIONS", (0.1,))
    monkeypatch.setattr(EXPERIMENTS["gradients"], "LEARNING_RATES", (0.01,))
    found = call(output, "temperatures", "fractions", "gradients")[
        "experiments"
    ]
    assert set(found) == {
        "errors",
        "missing-classes",
        "logit-matching",
        "temperatures",
        "fractions",
        "gradients",
    }
    assert set(found["temperatures"]["100"]) == {"inf", "labels"}
    for errors in found["temperatures"]["100"].values():
        assert errors[0] < 4000
    for name in ("student, labels", "student, distilled"):
        (many,) = found["errors"]["models"][name]["errors"]
        (few,) = found["fractions"][name]["0.1"]
        assert many < few < 9000
        assert found["gradients"]["errors"][name]["0.01"][0] < 8000
    for row in found["gradients"]["variance"].values():
        (hard,), (soft,) = row.values()
        assert 0 < soft["ratio"] < hard["ratio"]
    for name in ("temperatures", "fractions", "learning_rates"):
        assert (output / "tiny" / "test" / f"{name}.png").exists()


def start(output):
    """Runs the command in a process of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "reproductions.tests.narrow_mnist"),
            *("logit-matching", "--scale", "tiny", "--workers", "2"),
            *("--output", str(output)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "MPLBACKEND": "agg"},
    )


def kill_when(output, pattern):
    """Runs the command, and kills it when a file of this pattern appears."""
    process = start(output)
    deadline = time.monotonic() + 200
    while not list(output.glob(pattern)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_command_resumes(tmp_path_factory):
    """It ends with the networks of a command that was not killed."""
    tmp_path, output = (tmp_path_factory.mktemp(name) for name in ("a", "b"))
    assert start(output).wait(timeout=300) == 0
    kill_when(tmp_path, "tiny/runs/student_distilled-*/backup/2")
    (teacher,) = tmp_path.glob("tiny/runs/teacher-*/model.keras")
    trained = teacher.stat().st_mtime_ns
    (folder,) = tmp_path.glob("tiny/runs/student_distilled-*")
    assert not (folder / "model.keras").exists()
    # No worker outlives the command, or two would do the same work.
    epochs = sorted(path.name for path in folder.glob("backup/*"))
    time.sleep(1)
    assert epochs == sorted(path.name for path in folder.glob("backup/*"))
    # The student's width is a setting of its run, so new workers know it.
    call(tmp_path, "logit-matching", "--workers", "2")
    assert teacher.stat().st_mtime_ns == trained
    resumed = list(tmp_path.glob("tiny/runs/*/model.keras"))
    assert len(resumed) == 2
    for path in resumed:
        whole = output / path.relative_to(tmp_path)
        assert find_difference(path, whole) < 0.01


def test_what_decides_on_a_run_is_in_its_key(splits):
    study = make_study("--scale", "tiny")
    run = study.plan_student(0, "student", study.scale.soft)
    others = [
        dataclasses.replace(run, seed=1),
        dataclasses.replace(run, train_size=1000),
        dataclasses.replace(run, classes=(1, 2)),
        dataclasses.replace(run, temperature=4.0),
        dataclasses.replace(run, jitter="uniform"),
        dataclasses.replace(run, average_shifts=True),
        dataclasses.replace(run, width=30),
        dataclasses.replace(run, fraction=0.1),
        dataclasses.replace(run, alpha=0.9),
        dataclasses.replace(run, teachers=()),
        dataclasses.replace(run, teachers=study.plan_teachers()),
        dataclasses.replace(
            run, recipe=dataclasses.replace(run.recipe, epochs=3)
        ),
        dataclasses.replace(
            run, teachers=(dataclasses.replace(run.teachers[0], seed=1),)
        ),
    ]
    keys = {each.key for each in [run, *others]}
    assert len(keys) == 1 + len(others)
    assert dataclasses.replace(run).key == run.key


@pytest.fixture
def splits(monkeypatch):
    """The list of splits that are read: of images that are only paper."""
    read = []

    def load(split):
        read.append(split)
        count = tfds.builder("mnist").info.splits[split].num_examples
        labels = np.arange(count, dtype="int32") % 10
        return data.Examples(np.zeros((count, 28, 28), "uint8"), labels)

    monkeypatch.setattr(data, "_load", load)
    return read


def make_study(*arguments):
    return mnist.make_study(mnist.parse_arguments(arguments))


def test_validation_images_are_not_trained_on(splits):
    study = make_study("--split", "validation")
    assert splits == ["train[:55000]", "train[55000:]"]
    assert len(study.train.labels) == 55000
    assert len(study.judged.labels) == 5000


def test_shifts():
    images = np.random.default_rng(0).integers(0, 256, (25, 28, 28), "uint8")
    shifted = data.shift(images, np.arange(25, dtype="int32")).numpy()
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2)])
    for number in range(25):
        down, right = divmod(number, 5)
        np.testing.assert_array_equal(
            shifted[number],
            padded[number, down : down + 28, right : right + 28],
        )
    np.testing.assert_array_equal(shifted[data.NO_SHIFT], images[data.NO_SHIFT])


@pytest.mark.parametrize("jitter", [None, "uniform", "triangular"])
def test_batches(jitter):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (70, 28, 28), "uint8")
    examples = data.Examples(images, np.arange(70, dtype="int32") % 10)
    # Each says which image and which shift it is of.
    soft_targets = np.zeros((25 if jitter else 1, 70, 10), "float32")
    soft_targets[..., 0] = np.arange(70)
    soft_targets[..., 1] = np.arange(len(soft_targets))[:, None]

    def make(**kwargs):
        batches = data.make_batches(
            examples,
            8,
            2,
            seed=3,
            jitter=jitter,
            soft_targets=soft_targets,
            **kwargs,
        )
        # Whoever ends a training would wait for the thread that tunes it.
        assert batches.options().autotune.enabled is False
        return list(batches.as_numpy_iterator())

    batches = make()
    steps = training.count_epoch_steps(70, 8)
    assert len(batches) == 2 * steps == 16
    seen = []
    for (pixels, soft), labels in batches:
        index = soft[:, 0].astype(int)
        number = soft[:, 1].astype("int32")
        if not jitter:
            number[:] = data.NO_SHIFT
        np.testing.assert_array_equal(labels, index % 10)
        np.testing.assert_allclose(
            pixels * 255, data.shift(images[index], number), atol=1e-4
        )
        seen += zip(index, number, strict=True)
    first, second = seen[: 8 * steps], seen[8 * steps :]
    # Each image at most once in an epoch, in another order each time.
    assert len({index for index, _ in first}) == len(first)
    assert first != second
    assert not jitter or len({number for _, number in first}) > 10
    for (ours, _), (theirs, _) in zip(
        make(first_epoch=1), batches[steps:], strict=True
    ):
        np.testing.assert_array_equal(ours.inputs, theirs.inputs)


@pytest.mark.parametrize("scale", ["full", "small", "tiny"])
def test_every_run_has_a_batch(splits, scale):
    """Even without the images for validation."""
    study = make_study("--scale", scale, "--split", "validation")
    planned = {run for each in EXPERIMENTS.values() for run in each.plan(study)}
    for run in planned:
        chosen = runs.select(run, study.train)
        training.count_epoch_steps(len(chosen), run.recipe.batch_size)


def test_a_teacher_that_diverges_teaches_nobody(tmp_path):
    recipe = runs.Recipe(1, optimizer="sgd", learning_rate=1e30)
    run = runs.Run("teacher", 0, recipe, 200, jitter="uniform")
    with pytest.raises(RuntimeError, match="became NaN"):
        run.run(tmp_path)
    assert not run.is_finished(tmp_path)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [("adam", keras.optimizers.Adam), ("sgd", keras.optimizers.SGD)],
)
def test_recipe_is_in_the_optimizer(optimizer, expected):
    recipe = runs.Recipe(
        3, optimizer=optimizer, learning_rate=0.1, decay=2.0, weight_decay=0.2
    )
    built = recipe.build_optimizer(10)
    assert built.weight_decay == 0.2
    assert isinstance(built, expected)
    built.build([keras.Variable(1.0)])
    built.iterations.assign(5)
    assert float(built.learning_rate) == pytest.approx(0.1 * 0.25)


def test_search_compares_settings_on_validation_images(
    results, output, monkeypatch
):
    """After the others, whose networks it shares."""
    monkeypatch.setattr(search, "BEGINNING", {})
    monkeypatch.setattr(
        search,
        "SETTINGS",
        {
            "student, labels": {
                search.FIRST: {},
                "hardly any": {"learning_rate": 1e-4, "epochs": 0.1},
            },
            "student, distilled": {
                search.FIRST: {},
                "averaged": {"average_shifts": True},
            },
        },
    )
    searched = call(output, "search", "--split", "validation")
    assert searched["images"] == {"trained on": 1920, "judged on": 5000}
    found = searched["experiments"]["search"]
    hard = found["student, labels"]
    chosen, hardly = (
        hard[name]["errors"][0] for name in (search.FIRST, "hardly any")
    )
    assert chosen < hardly / 3
    assert hard[search.FIRST]["p_values"] == [1.0]
    (loss,), (worse,) = (
        hard[name]["crossentropy"] for name in (search.FIRST, "hardly any")
    )
    # A guess has log 10.
    assert 0 < loss < worse < 1.1 * np.log(10)
    assert hard["hardly any"]["p_values"][0] < 1e-6
    assert found["student, distilled"]["averaged"]["errors"][0] < chosen
    table = output / "tiny" / "validation" / "search.md"
    assert "| student, labels | hardly any |" in table.read_text()
    # The paper's figures are of the test images.
    assert not (table.parent / "paper.md").exists()


def test_the_search_began_where_the_page_says(splits):
    study = make_study("search", "--split", "validation", "--seeds", "1")
    planned = iter(search.plan(study))
    runs = {
        network: {setting: next(planned) for setting in settings}
        for network, settings in search.SETTINGS.items()
    }
    assert next(planned, None) is None
    first = {name: settings[search.FIRST] for name, settings in runs.items()}
    ensemble = runs["student, distilled"]["an ensemble of teachers"]
    assert [each.seed for each in ensemble.teachers] == [0, 1, 2]
    epochs = {name: run.recipe.epochs for name, run in first.items()}
    teacher, soft = "teacher", "student, distilled"
    assert epochs == {
        teacher: 70,
        "student, labels": 20,
        soft: 30,
        "student, labels, jitter": 30,
        "student, distilled, jitter": 80,
        search.TEACHER_SMALL_SHIFTS: 70,
        search.SOFT_OF_SMALL_SHIFTS: 30,
    }
    assert first[soft].teachers == (first[teacher],)
    small_shifts = runs[search.TEACHER_SMALL_SHIFTS]
    for run in small_shifts.values():
        assert run.jitter == "triangular"
    twice = small_shifts["twice the epochs"]
    assert twice.recipe.epochs == 140
    for size, run in zip(
        (64, 32, 16), runs[search.SOFT_OF_SMALL_SHIFTS].values(), strict=True
    ):
        assert run.teachers == (twice,)
        assert run.recipe == dataclasses.replace(
            first[soft].recipe, batch_size=size
        )


def test_variance_of_the_gradient():
    """Of two layers, against the gradients of each example."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((2, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation="relu"),
            keras.layers.Dense(3),
        ]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 2, 2)).astype("float32")
    y = rng.integers(0, 3, 20)
    first, bias, second, last_bias = map(np.float64, model.get_weights())
    flat = np.float64(x).reshape(20, 4)
    hidden = np.maximum(flat @ first + bias, 0)
    z = hidden @ second + last_bias
    q = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    delta = q - np.eye(3)[y]
    back = (delta @ second.T) * (hidden > 0)
    each_gradient = np.concatenate(
        [
            (flat[:, :, None] * back[:, None]).reshape(20, -1),
            back,
            (hidden[:, :, None] * delta[:, None]).reshape(20, -1),
            delta,
        ],
        axis=-1,
    )
    mean = each_gradient.mean(axis=0)
    trace = np.sum((each_gradient - mean) ** 2) / 19
    square_mean = np.sum(mean**2) - trace / 20
    found = gradients.measure_variance(
        model,
        x,
        y,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=7,
    )
    assert found["ratio"] == pytest.approx(trace / square_mean, rel=1e-4)
    assert found["length"] == pytest.approx(np.sqrt(square_mean), rel=1e-4)


def test_small_shifts_are_drawn_more_often():
    """The sum of two draws from -1, 0 and 1 in each direction."""
    numbers = data.draw_shifts([0, 1], 90000, "triangular").numpy()
    assert {*numbers} == set(range(25))
    weights = np.array([1, 2, 3, 2, 1]) / 9
    np.testing.assert_allclose(
        np.bincount(numbers).reshape(5, 5) / 90000,
        np.outer(weights, weights),
        atol=4e-3,
    )
    with pytest.raises(ValueError, match="Received: gaussian"):
        data.draw_shifts([0, 1], 5, "gaussian")


@pytest.mark.parametrize("jitter", [None, "uniform"])
@pytest.mark.parametrize("average_shifts", [False, True])
def test_what_teachers_say_is_averaged(tmp_path, jitter, average_shifts):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 25, 8, 10)).astype("float32")
    teachers = []
    for seed in range(2):
        teacher = runs.Run("teacher", seed, runs.Recipe(1), 8, jitter="uniform")
        folder = teacher.find_folder(tmp_path)
        folder.mkdir()
        np.save(folder / "soft_targets.npy", logits[seed])
        teachers.append(teacher)
    run = runs.Run(
        "student",
        0,
        runs.Recipe(1),
        8,
        width=30,
        teachers=tuple(teachers),
        jitter=jitter,
        average_shifts=average_shifts,
    )
    chosen = np.array([1, 4, 6])
    found = runs.average_soft_targets(run, chosen, tmp_path)
    both = logits.mean(axis=0)[:, chosen]
    if average_shifts:
        expected = both.mean(axis=0, keepdims=True)
    else:
        # Number 12 of 25 is no shift.
        expected = both[12:13] if jitter is None else both
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_share_of_the_images_has_all_classes_alike():
    study = make_study("--scale", "tiny")
    drawn = [
        runs.select(
            study.plan_student(seed, "student", study.scale.hard, fraction=0.1),
            study.train,
        )
        for seed in (0, 0, 1)
    ]
    whole = np.bincount(study.train.labels)
    few = np.bincount(study.train.labels[drawn[0]])
    np.testing.assert_allclose(few, whole / 10, atol=0.5)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.fixture(scope="module")
def shown():
    """The results on the page."""
    return json.loads((RESULTS / "results.json").read_text())


def test_the_page_shows_what_was_measured(shown, tmp_path):
    results = shown["experiments"]
    assert set(results) == set(EXPERIMENTS)
    for name, found in results.items():
        table = EXPERIMENTS[name].show(found, tmp_path)
        assert (RESULTS / f"{name}.md").read_text() == table + "\n"
    table = mnist.SCALES["full"].to_markdown()
    assert (RESULTS / "settings.md").read_text() == table + "\n"
    table = mnist.format_comparison(results)
    assert (RESULTS / "paper.md").read_text() == table + "\n"
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert {path.name for path in RESULTS.glob("*.png")} == pictures


def test_the_page_is_of_these_settings(shown):
    settings = dataclasses.asdict(mnist.SCALES["full"])
    assert shown["settings"] == json.loads(json.dumps(settings))
    assert shown["seeds"] == [0, 1, 2]
    assert shown["images"] == {"trained on": 60000, "judged on": 10000}
    assert "--split test" in shown["command"]


def test_the_page_shows_what_was_searched(tmp_path):
    shown = json.loads((RESULTS / "search.json").read_text())
    assert "--split validation" in shown["command"]
    assert shown["images"] == {"trained on": 55000, "judged on": 5000}
    table = search.show(shown["experiments"]["search"], tmp_path)
    assert (RESULTS / "search.md").read_text() == table + "\n"


def test_what_the_page_promises(shown):
    """The paper's figures that are reached, as medians of the seeds."""
    models = shown["experiments"]["errors"]["models"]
    assert np.median(models["teacher"]["errors"]) <= 67
    assert 130 <= np.median(models["student, labels"]["errors"]) <= 160
    cases = shown["experiments"]["missing-classes"]
    for way in ("what the teacher says", "the frequencies of the classes"):
        way = f"biases matched to {way}"
        without = [each[way] for each in cases["without 3"]]
        assert np.median([each["errors"] for each in without]) <= 109
        assert np.median([each["unseen"] for each in without]) >= 98.6
        two = [each[way] for each in cases["only 7 and 8"]]
        assert np.median([each["errors"] for each in two]) <= 1320


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eror"], "eror"),
        (["--seeds", "0"], "--seeds"),
        (["--scale", "huge"], "--scale"),
        (["--split", "train"], "--split"),
        (["search"], "--split validation"),
    ],
)
def test_bad_arguments(capsys, arguments, message):
    with pytest.raises(SystemExit):
        mnist.main(arguments)
    assert message in capsys.readouterr().err
