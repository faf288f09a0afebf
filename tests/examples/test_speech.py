"""The paper's sections on speech, at a tiny scale, and their parts."""

import itertools
import json

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.special import softmax

import data_sets

needs_data = data_sets.needs("spoken_digit")


@pytest.fixture(scope="module")
def speech(import_example):
    return import_example("speech")


@pytest.fixture(scope="module")
def parts(import_example):
    """Imports a module of the example."""
    return lambda name: import_example(f"_speech.{name}")


def score(log_likelihoods, path):
    return log_likelihoods[np.arange(len(path)), list(path)].sum()


def test_best_path_against_all_paths(parts):
    find_best_path = parts("alignment").find_best_path
    random = np.random.default_rng(0)
    for frames, states in [(2, 4), (3, 4), (6, 4), (7, 5)]:
        for _ in range(20):
            scores = random.normal(size=(frames, states))
            every = [
                path
                for path in itertools.product(range(states), repeat=frames)
                if path[0] in (0, 1)
                and path[-1] in (states - 2, states - 1)
                and all(b - a in (0, 1) for a, b in itertools.pairwise(path))
            ]
            best = max(every, key=lambda path: score(scores, path))
            assert find_best_path(scores).tolist() == list(best)


def test_best_path_needs_enough_frames(parts):
    with pytest.raises(ValueError, match=r"at least 8 frames.*Received: 7"):
        parts("alignment").find_best_path(np.zeros((7, 10)))


def test_aligner_finds_hand_made_states(parts):
    """Of words whose every state has features of its own."""
    alignment = parts("alignment")
    random = np.random.default_rng(0)
    centers = random.normal(size=(alignment.STATES, 6)) * 5
    centers[alignment.SILENCE] = 0
    truth, features, loudness, words = [], [], [], []
    for number in range(60):
        word = number % 3
        states = np.repeat(
            alignment.list_states(word),
            [random.integers(0, 4), *random.integers(2, 7, 8), 2],
        )
        truth.append(states)
        words.append(word)
        features.append(
            centers[states] + random.normal(size=(len(states), 6)) * 0.5
        )
        loudness.append(
            np.where(states == alignment.SILENCE, -80.0, 0.0)[:, None]
        )
    aligner = alignment.Aligner()
    # The other words are not there, so their densities are not needed.
    aligner.fit(features, loudness, words)
    right = [
        aligner.align(each, word) == states
        for each, word, states in zip(features, words, truth, strict=True)
    ]
    assert np.mean(np.concatenate(right)) > 0.97


def test_flat_start(parts):
    path = parts("alignment").start_flat(
        np.array([-90.0, -90, *[-10.0] * 16, -90])[:, None]
    )
    assert path.tolist() == [0, 0, *np.repeat(range(1, 9), 2), 9]


def decode_by_brute_force(scores, penalty, words):
    """Tries all sequences of states of a few words of two states."""
    frames, states = scores.shape
    silence = states - 1

    def steps(a, b):
        """Returns what it costs to go from one state to the next, or None."""
        if a == b:
            return 0.0
        if b == silence:
            return 0.0 if a % 2 == 1 else None
        if b % 2 == 1:
            return 0.0 if a == b - 1 else None
        return penalty if a == silence or a % 2 == 1 else None

    best, found = -np.inf, None
    for path in itertools.product(range(states), repeat=frames):
        if path[0] != silence and path[0] % 2:
            continue
        if path[-1] != silence and path[-1] % 2 == 0:
            continue
        costs = [steps(a, b) for a, b in itertools.pairwise(path)]
        if None in costs:
            continue
        total = score(scores, path) - sum(costs)
        total -= penalty * (path[0] != silence)
        if total > best:
            best = total
            entered = [
                b
                for a, b in itertools.pairwise((silence, *path))
                if b != silence and b % 2 == 0 and a != b
            ]
            found = [each // 2 for each in entered]
    return found


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 1.0])
def test_decoder_against_brute_force(parts, monkeypatch, penalty):
    decoding = parts("decoding")
    # Two words of two states, and silence.
    monkeypatch.setattr(decoding, "STATES_OF_WORD", 2)
    monkeypatch.setattr(decoding, "STATES", 5)
    monkeypatch.setattr(decoding, "SILENCE", 4)
    monkeypatch.setattr(decoding, "_FIRST", np.array([0, 2]))
    monkeypatch.setattr(decoding, "_LAST", np.array([1, 3]))
    random = np.random.default_rng(1)
    lengths = np.array([2, 4, 5, 6, 6, 6, 6])
    scores = random.normal(size=(len(lengths), 6, 5)) * 2
    found = decoding.decode(scores, lengths, penalty)
    assert found == [
        decode_by_brute_force(each[:length], penalty, 2)
        for each, length in zip(scores, lengths, strict=True)
    ]
    assert len({tuple(each) for each in found}) > 2


def test_word_errors_of_known_strings(parts):
    errors, spoken = parts("scores").count_word_errors(
        [[1, 2, 3], [4, 5], [6, 7], [8, 9]],
        [[1, 2, 3], [4], [6, 0, 7], [1, 9]],
        [[10, 11, 12], [13, 14], [15, 16], [17, 18]],
    )
    # Right, a deletion, an insertion after the 6, a substitution.
    assert errors.tolist() == [0, 0, 0, 0, 1, 1, 0, 1, 0]
    assert spoken.tolist() == list(range(10, 19))
    nothing, _ = parts("scores").count_word_errors([[1, 2]], [[]], [[0, 1]])
    assert nothing.tolist() == [1, 1]


def test_bootstrap_is_by_recording(parts):
    bootstrap = parts("scores").bootstrap
    random = np.random.default_rng(0)
    rates = random.uniform(size=50)
    recordings = np.repeat(np.arange(50), 100)
    wrong = (random.uniform(size=5000) < rates[recordings]).astype(int)
    low, high = bootstrap(wrong, recordings)
    means = wrong.reshape(50, 100).mean(axis=-1)
    error = means.std(ddof=1) / np.sqrt(50)
    assert low == pytest.approx(means.mean() - 1.96 * error, abs=0.01)
    assert high == pytest.approx(means.mean() + 1.96 * error, abs=0.01)
    # Far wider than if all were independent.
    narrow = bootstrap(wrong, np.arange(5000))
    assert high - low > 3 * (narrow[1] - narrow[0])


@needs_data
def test_no_recording_is_in_two_parts(parts):
    recordings = parts("recordings")
    spoken = recordings.load()
    assert len(spoken) == 2500
    assert {each.speaker for each in spoken} == set(recordings.SPEAKERS)
    split = recordings.split(spoken)
    assert [len(each) for each in split.values()] == [2000, 250, 250]
    together = sorted(p for each in split.values() for p in each)
    assert together == list(range(2500))
    assert {spoken[p].number for p in split["test"]} == set(range(5))
    held_out = recordings.split(spoken, "theo")
    for part, positions in held_out.items():
        speakers = {spoken[p].speaker for p in positions}
        assert ("theo" in speakers) == (part == "test")
        assert len(speakers) == (1 if part == "test" else 4)
    assert not set(held_out["test"]) & set(held_out["train"])


@needs_data
def test_strings_have_the_words_and_labels_of_their_recordings(parts):
    corpus, recordings = parts("corpus"), parts("recordings")
    alignment = parts("alignment")
    spoken = [each for each in recordings.load() if each.number < 2]
    stride = parts("features").STRIDE
    states = [
        np.full(1 + (len(each.audio) - 1) // stride, 8 * each.word)
        for each in spoken
    ]
    positions = [p for p, each in enumerate(spoken) if each.number == 0]
    first, again, other = (
        corpus.make_strings(spoken, states, positions, seed)
        for seed in (1, 1, 2)
    )
    for ours, theirs in zip(first[:4], again[:4], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert first.spoken == again.spoken != other.spoken
    assert sorted(p for each in first.spoken for p in each) == positions
    assert first.starts[-1] == len(first.labels) == len(first.features)
    for row, (start, end) in enumerate(itertools.pairwise(first.starts)):
        words, where = first.words[row], first.recordings[start:end]
        assert words == [spoken[p].word for p in first.spoken[row]]
        assert len({spoken[p].speaker for p in first.spoken[row]}) == 1
        order = [p for p, _ in itertools.groupby(where[where >= 0])]
        assert order == first.spoken[row]
        for p in order:
            assert np.sum(where == p) == len(states[p])
            labels = first.labels[start:end][where == p]
            assert set(labels) == {8 * spoken[p].word}
        assert set(first.labels[start:end][where < 0]) <= {alignment.SILENCE}
        features = first.features[start:end]
        np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-3)


@needs_data
def test_windows_stay_within_their_string(parts):
    corpus = parts("corpus")
    frames = np.arange(10, dtype="float32")
    strings = corpus.Strings(
        np.repeat(frames[:, None], 24, axis=1),
        np.zeros(10, int),
        np.zeros(10, int),
        np.array([0, 4, 10]),
        [[0], [0]],
        [[0], [0]],
    )
    windows = corpus.make_windows(strings)(np.array([0, 3, 5])).numpy()
    assert windows.shape == (3, 21, 24)
    around = np.arange(-13, 8)
    for window, (frame, low, high) in zip(
        windows[..., 0], [(0, 0, 3), (3, 0, 3), (5, 4, 9)], strict=True
    ):
        np.testing.assert_array_equal(
            window, np.clip(frame + around, low, high)
        )


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("speech") / "new"


@pytest.fixture(scope="module")
def results(speech, output):
    options = f"--scale tiny --workers 1 --output {output}"
    return speech.main(options.split())["experiments"]


@needs_data
def test_an_ensemble_is_better_than_its_members(results):
    systems = {
        name: seeds[0] for name, seeds in results["ensemble"]["systems"].items()
    }
    frames = {name: each["frames"] for name, each in systems.items()}
    assert frames["baseline"] > 0.2
    assert frames["ensemble"] > frames["baseline"]
    assert frames["student, distilled"] > 0.2
    for each in systems.values():
        for name in ("frames", "word_error_rate"):
            low, high = each[f"{name}_interval"]
            assert low < each[name] < high or name == "frames"
    (kept,) = results["ensemble"]["gain_kept"]
    assert kept == pytest.approx(
        100
        * (frames["student, distilled"] - frames["baseline"])
        / (frames["ensemble"] - frames["baseline"])
    )


@needs_data
def test_the_student_says_what_the_ensemble_says(results, output, parts):
    """More than a network that learns from labels for as many epochs."""
    study_module, ensemble = parts("study"), parts("experiments.ensemble")
    study = study_module.Study(
        study_module.SCALES["tiny"], output / "tiny" / "tasks"
    )
    teacher = parts("tasks").load_teacher(study.plan_members(0), study.root)
    (student,) = ensemble._plan_students(study, 0).values()
    control = ensemble._plan_controls(study, 0)[study.scale.patience]
    assert student.epochs == control.epochs
    p = softmax(study.predict(teacher, "test"), axis=-1)

    def divergence(model):
        logits = study.predict(model.load(study.root), "test")
        log_q = log_softmax(logits, axis=-1)
        return np.mean(np.sum(p * (np.log(p) - log_q), axis=-1))

    assert divergence(student) < 0.8 * divergence(control)


@needs_data
def test_soft_targets_need_less_data(results):
    judged = results["small-data"]["judged"]
    hard, soft = (
        judged[f"25%, {name}"][0]["frames"]
        for name in ("labels, early stopping", "soft targets")
    )
    assert hard < soft < judged["all data, labels"][0]["frames"]


@needs_data
def test_every_arm_sees_the_same_copies(speech, parts, tmp_path):
    study_module = parts("study")
    study = study_module.Study(study_module.SCALES["paper"], tmp_path)
    ensemble = parts("experiments.ensemble")
    planned = ensemble.plan(study)
    models = [each for each in planned if hasattr(each, "copies")]
    models = [each for each in models if hasattr(each, "epochs")]
    assert len({each.copies for each in models}) == 1
    students = ensemble._plan_students(study, 0).values()
    controls = ensemble._plan_controls(study, 0).values()
    epochs = {each.epochs for each in students}
    assert len(epochs) == 1
    assert epochs <= {each.epochs for each in controls}
    small = parts("experiments.small_data")
    for fraction in study.scale.fractions:
        hard, soft = small._plan(study, fraction, 0).values()
        assert hard.copies == soft.copies == soft.soft_targets.copies
        assert hard.epochs == soft.epochs
        assert hard.copies.fraction == fraction


@needs_data
def test_results_are_written(results, output):
    folder = output / "tiny" / "all speakers"
    written = json.loads((folder / "results.json").read_text())
    assert written["experiments"] == results
    assert written["command"] == (
        "python examples/speech.py --scale tiny align ensemble small-data"
    )
    for name in ("align", "ensemble", "small-data"):
        assert (folder / f"{name}.md").read_text().startswith("| ")
    picture = (folder / "small_data.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["esemble"], "esemble"),
        (["--scale", "huge"], "--scale"),
        (["--held-out", "lucas"], "--held-out"),
    ],
)
def test_bad_arguments(speech, capsys, arguments, message):
    with pytest.raises(SystemExit):
        speech.main(arguments)
    assert message in capsys.readouterr().err
