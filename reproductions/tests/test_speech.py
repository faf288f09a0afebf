"""The paper's sections on speech, at a tiny scale, and their parts."""

import contextlib
import dataclasses
import itertools
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax
from scipy.special import softmax

import data_sets
from reproductions.speech import __main__ as speech
from reproductions.speech import alignment
from reproductions.speech import corpus
from reproductions.speech import decoding
from reproductions.speech import experiments
from reproductions.speech import features
from reproductions.speech import judgement
from reproductions.speech import models
from reproductions.speech import preparation
from reproductions.speech import recordings
from reproductions.speech import scores
from reproductions.speech import tables
from reproductions.speech.experiments import ensemble
from reproductions.speech.experiments import search
from reproductions.speech.experiments import small_data
from reproductions.speech.study import SCALES
from reproductions.speech.study import Study

RESULTS = pathlib.Path(__file__).parents[1] / "speech" / "results"

needs_data = data_sets.needs("spoken_digit")


def score(log_likelihoods, path):
    return log_likelihoods[np.arange(len(path)), list(path)].sum()


def test_best_paths_against_all_paths():
    find_best_paths = alignment.find_best_paths
    random = np.random.default_rng(0)
    for lengths, states in [([2, 3, 6, 6], 4), ([3, 7, 5, 4], 5)]:
        scores = random.normal(size=(4, max(lengths), states))
        paths = find_best_paths(scores, lengths)
        for own, path, frames in zip(scores, paths, lengths, strict=True):
            every = [
                path
                for path in itertools.product(range(states), repeat=frames)
                if path[0] in (0, 1)
                and path[-1] in (states - 2, states - 1)
                and all(b - a in (0, 1) for a, b in itertools.pairwise(path))
            ]
            best = max(every, key=lambda path, own=own: score(own, path))
            assert path.tolist() == list(best)


def test_best_path_needs_enough_frames():
    with pytest.raises(ValueError, match=r"at least 8 frames.*Received: 7"):
        alignment.find_best_paths(np.zeros((2, 9, 10)), [9, 7])


def test_aligner_finds_hand_made_states(monkeypatch):
    """Of words whose every state has features of its own."""
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
    monkeypatch.setattr(alignment, "ROUNDS", (1, 1, 1, 3))
    aligner = alignment.Aligner()
    # The other words are not there, so their densities are not needed.
    aligner.fit(features, loudness, words)
    found = np.concatenate(aligner.align(features, words))
    assert np.mean(found == np.concatenate(truth)) > 0.97


def test_flat_start():
    path = alignment.start_flat(
        np.array([-90.0, -90, *[-10.0] * 16, -90])[:, None]
    )
    assert path.tolist() == [0, 0, *np.repeat(range(1, 9), 2), 9]


def decode_by_brute_force(scores, penalty, log_stay, log_leave):
    """Tries all sequences of states of a few words of two states."""
    frames, states = scores.shape
    silence = states - 1

    def step(a, b):
        """Returns what it gives to go from one state to the next, or None."""
        if a == b:
            return log_stay[a]
        if b != silence and b % 2 == 1:
            return log_leave[a] if a == b - 1 else None
        if a != silence and a % 2 == 0:
            return None
        return log_leave[a] - penalty * (b != silence)

    best, found = -np.inf, None
    for path in itertools.product(range(states), repeat=frames):
        if path[0] != silence and path[0] % 2:
            continue
        if path[-1] != silence and path[-1] % 2 == 0:
            continue
        steps = [step(a, b) for a, b in itertools.pairwise(path)]
        if None in steps:
            continue
        total = score(scores, path) + sum(steps) + log_leave[path[-1]]
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
def test_decoder_against_brute_force(penalty):
    """Of two words of two states, and silence."""
    random = np.random.default_rng(1)
    lengths = np.array([2, 4, 5, 6, 6, 6, 6] * 4)
    scores = random.normal(size=(len(lengths), 6, 5)) * 2
    transitions = np.log(random.uniform(0.1, 0.9, size=(2, 5)))
    found = decoding.decode(scores, lengths, penalty, *transitions, 2)
    assert found == [
        decode_by_brute_force(each[:length], penalty, *transitions)
        for each, length in zip(scores, lengths, strict=True)
    ]
    assert len({tuple(each) for each in found}) > 5


def test_transitions_are_counted_within_strings():
    labels = np.array([0, 0, 0, 1, 0, 0, 2, 2])
    stay, leave = decoding.count_transitions(labels, np.array([0, 4, 8]), 4)
    # Of the steps from 0 three stay and two leave, and of those from 2 one
    # stays; a string ends in 1. One more of each.
    np.testing.assert_allclose(np.exp(stay), [4 / 7, 1 / 2, 2 / 3, 1 / 2])
    np.testing.assert_allclose(np.exp(leave), [3 / 7, 1 / 2, 1 / 3, 1 / 2])


def test_word_errors_of_known_strings():
    count = scores.count_word_errors
    errors = count(
        [[1, 2, 3], [4, 5], [6, 7], [8, 9]],
        [[1, 2, 3], [4], [6, 0, 7], [1, 9]],
    )
    # Right, a deletion, an insertion after the 6, a substitution.
    assert errors.tolist() == [0, 0, 0, 0, 1, 1, 0, 1, 0]
    assert count([[1, 2]], [[]]).tolist() == [1, 1]


@pytest.mark.parametrize("unit", ["recordings", "strings"])
def test_bootstrap_is_by_recording_and_string(unit):
    """Where one of them makes all of the difference, it is the usual one."""
    random = np.random.default_rng(0)
    # Each of 100 strings has a word of each of 50 recordings, or the reverse.
    rates = random.uniform(size=50)
    which = np.repeat(np.arange(50), 100)
    other = np.tile(np.arange(100), 50)
    wrong = (random.uniform(size=5000) < rates[which]).astype(int)
    units = (which, other) if unit == "recordings" else (other, which)
    low, high = scores.bootstrap(wrong, scores.Units(*units))
    means = wrong.reshape(50, 100).mean(axis=-1)
    error = means.std(ddof=1) / np.sqrt(50)
    assert low == pytest.approx(means.mean() - 1.96 * error, abs=0.01)
    assert high == pytest.approx(means.mean() + 1.96 * error, abs=0.01)
    # Of a function of several rates, with the same draws for all.
    both = np.stack([wrong, 2 * wrong])
    ratio = scores.bootstrap(
        both, scores.Units(*units), lambda low, high: high / low
    )
    assert ratio == pytest.approx((2, 2))


def test_bootstrap_has_the_variance_of_both():
    """Of words whose errors are a recording's and a string's."""
    random = np.random.default_rng(1)
    recordings, strings = (each.ravel() for each in np.indices((80, 60)))
    by_recording, by_string = random.normal(size=80), random.normal(size=60)
    low, high = scores.bootstrap(
        by_recording[recordings] + by_string[strings],
        scores.Units(recordings, strings),
    )
    error = np.sqrt(np.var(by_recording) / 80 + np.var(by_string) / 60)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)


def test_a_decoder_is_chosen_by_those_around_it(tmp_path):
    study = Study(SCALES["small"], tmp_path)
    task = study.plan_judgement(*study.plan_members(0))
    tried = np.full((len(task.scales), len(task.penalties)), 0.5)
    # One that is best by chance, and a valley.
    tried[0, 0] = 0.2
    tried[3:6, 5:8] = 0.25
    assert task.choose(tried) == (task.scales[4], task.penalties[6])


def test_decoders_at_the_edge_are_told():
    systems = {
        "a": {
            "decoders": [[0.5, 4]] * 3,
            "on_the_edge": 1,
            "tried": {"0.5": 0.1, "1.0": 0.2},
        },
        "b": {
            "decoders": [[1.0, 8]],
            "on_the_edge": 1,
            "tried": {"0.5": 0.3, "1.0": 0.1},
        },
    }
    told = tables.describe_decoders(systems)
    assert told.startswith("Of 4 decoders, 2 have a scale or a penalty")
    assert told.endswith("in percent: 15.0 (0.5), 17.5 (1.0).")


def test_a_share_of_the_way():
    """Of three systems on two recordings of two frames."""
    strings = corpus.Strings(
        np.zeros((4, 24), "float32"),
        np.array([0, 0, 8, 8]),
        np.array([0, 0, 1, 1]),
        np.array([0, 4]),
        [[0, 1]],
        [[0, 1]],
    )

    def judge(*right):
        return judgement.Judged(
            train=0.0,
            development=0.0,
            right=np.array(right),
            errors=np.zeros(2, int),
            tried=np.zeros((1, 1)),
            scale=1.0,
            penalty=0.0,
            on_the_edge=False,
        )

    found = scores.measure_share(
        [judge(False, False, False, False)] * 4,
        [judge(True, False, False, False), judge(True, True, False, True)],
        [judge(True, True, True, False)] * 2,
        strings,
        seeds=2,
    )
    assert found["share"] == pytest.approx(2 / 3)
    assert found["by_seed"] == pytest.approx([1 / 3, 1])
    # Twice the one recording: (3 / 4) / 1, or twice the other one.
    low, high = found["interval"]
    assert (low, high) == pytest.approx((0.25 / 0.5, 0.75 / 1))


@needs_data
def test_no_recording_is_in_two_parts():
    spoken = recordings.load()
    assert len(spoken) == 2500
    assert {each.speaker for each in spoken} == set(recordings.SPEAKERS)
    split = recordings.split(spoken)
    *parts_, _ = split.values()
    assert [len(each) for each in parts_] == [2000, 250, 250]
    together = sorted(p for each in parts_ for p in each)
    assert together == list(range(2500))
    assert {spoken[p].number for p in split["test"]} == set(range(5))
    assert split["noise"] == split["test"]
    held_out = recordings.split(spoken, "theo")
    for part, positions in held_out.items():
        speakers = {spoken[p].speaker for p in positions}
        assert ("theo" in speakers) == (part == "test")
        assert len(speakers) == (1 if part == "test" else 4)
    together = [p for each in held_out.values() for p in each]
    assert len(together) == len(set(together))
    # Choices were made with these.
    numbers = {spoken[p].number for p in held_out["test"]}
    assert numbers == {*range(5), *range(10, 50)}


def test_a_share_is_drawn_evenly():
    draw = preparation._draw
    positions = [*range(100, 300)]
    groups = [each % 20 for each in positions]
    some, more = (draw(positions, groups, f, 3) for f in (0.125, 0.25))
    assert len(some) == 25
    assert len(more) == 50
    assert set(some) < set(more) < set(positions)
    for drawn, sizes in ((some, {1, 2}), (more, {2, 3})):
        counts = np.bincount([each % 20 for each in drawn])
        assert set(counts) == sizes
    assert draw(positions, groups, 0.125, 4) != some


@needs_data
def test_strings_have_the_words_and_labels_of_their_recordings():
    spoken = [each for each in recordings.load() if each.number < 2]
    stride = features.STRIDE
    states = [
        np.full(1 + (len(each.audio) - 1) // stride, 8 * each.word)
        for each in spoken
    ]
    positions = [p for p, each in enumerate(spoken) if each.number == 0]
    first, again, other = (
        corpus.make_strings(spoken, states, positions, positions, seed)
        for seed in (1, 1, (2, 0))
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
        frames = first.features[start:end]
        np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-3)


@needs_data
def test_windows_stay_within_their_string():
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


@contextlib.contextmanager
def fewer_recordings():
    """Makes all parts smaller, and the alignment rougher."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordings, "TEST_BELOW", 2)
        patch.setattr(recordings, "DEVELOPMENT_BELOW", 4)
        patch.setattr(alignment, "ROUNDS", (1, 3))
        scale = dataclasses.replace(SCALES["tiny"], most=8)
        patch.setitem(SCALES, "tiny", scale)
        yield


def call(output, *arguments):
    options = f"--scale tiny --workers 1 --output {output}"
    with fewer_recordings():
        return speech.main([*arguments, *options.split()])


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("speech") / "new"


@pytest.fixture(scope="module")
def results(output):
    return call(output)["experiments"]


@needs_data
def test_an_ensemble_is_better_than_its_members(results):
    systems = results["ensemble"]["systems"]
    frames = {name: np.mean(each["frames"]) for name, each in systems.items()}
    assert [len(each["frames"]) for each in systems.values()] == [3, 1, 1, 1, 1]
    assert frames["baseline"] > 0.2
    assert frames["ensemble"] > frames["baseline"]
    assert frames["student, distilled"] > 0.2
    for each in systems.values():
        for name in ("frames", "word_error_rate"):
            low, high = each[f"{name}_interval"]
            assert low < np.mean(each[name]) < high
    for lowest in ("baseline", "labels, best number of epochs"):
        kept = results["ensemble"]["gain_kept"][lowest]
        assert kept["share"] == pytest.approx(
            (frames["student, distilled"] - frames[lowest])
            / (frames["ensemble"] - frames[lowest])
        )
        low, high = kept["interval"]
        assert low < kept["share"] < high
        assert kept["by_seed"] == pytest.approx([kept["share"]])


@needs_data
def test_the_control_is_chosen_on_development_strings(results):
    found = results["ensemble"]
    sweep = found["sweep"]["development"]
    assert list(sweep) == ["5", "6"]
    best = max(sweep, key=sweep.get)
    assert found["sweep"]["chosen"] == int(best)
    for system, epochs in (
        ("labels, best number of epochs", best),
        # As many as the student has.
        ("student, labels", "6"),
    ):
        reached = found["systems"][system]["development"]
        assert np.mean(reached) == pytest.approx(sweep[epochs])


@needs_data
def test_differences_are_those_of_the_systems(results):
    found = results["ensemble"]
    for name, each in found["differences"].items():
        ours, theirs = (found["systems"][of] for of in name.split(" - "))
        for key in ("frames", "word_error_rate"):
            assert each[key] == pytest.approx(
                np.mean(ours[key]) - np.mean(theirs[key]), abs=1e-9
            )
            low, high = each[f"{key}_interval"]
            assert low <= each[key] <= high
            assert each[f"{key}_by_seed"] == pytest.approx([each[key]])


@pytest.fixture(scope="module")
def study(results, output):
    with fewer_recordings():
        return Study(SCALES["tiny"], output / "tiny" / "tasks")


@needs_data
def test_the_student_says_what_the_ensemble_says(study):
    """More than a network that learns from labels for as many epochs."""
    teacher = models.load_teacher(study.plan_members(0), study.root)
    student = ensemble.plan_student(study, 0)
    control = ensemble.plan_control(study, 0, student.epochs)
    assert control.seed == student.seed
    strings = study.test.load(study.root)
    p = softmax(models.predict(teacher, strings), axis=-1)

    def divergence(model):
        logits = models.predict(model.load(study.root), strings)
        log_q = log_softmax(logits, axis=-1)
        return np.mean(np.sum(p * (np.log(p) - log_q), axis=-1))

    assert divergence(student) < 0.8 * divergence(control)


@needs_data
def test_judged_frames_are_those_of_the_network(study):
    """Counted anew, from the strings and the windows of their frames."""
    (model, *_) = study.plan_members(0)
    network = model.load(study.root)
    task = study.plan_judgement(model)
    judged = task.load(study.root)
    for copies, share in (
        (task.test, np.mean(judged.right)),
        (task.development, judged.development),
        (task.train, judged.train),
    ):
        strings = copies.load(study.root)
        windows = corpus.make_windows(strings)
        said = network.predict(
            windows(np.arange(len(strings.labels))), 2048, verbose=0
        ).argmax(axis=-1)
        assert share == pytest.approx(np.mean(said == strings.labels))
    assert model.find_development(study.root) == pytest.approx(
        judged.development
    )
    words = study.test.load(study.root).words
    assert len(judged.errors) == sum(map(len, words))
    assert task.choose(judged.tried) == (judged.scale, judged.penalty)
    told = study.describe([task])
    assert [*told["tried"].values()] == [*judged.tried.min(axis=1)]


@needs_data
def test_a_copy_is_the_first_of_several(study):
    several = study.plan_train()
    one = study.plan_judgement(study.plan_members(0)[0]).train
    assert (several.count, one.count) == (4, 1)
    frames = one.load(study.root).features
    np.testing.assert_array_equal(
        frames, several.load(study.root).features[: len(frames)]
    )


@needs_data
def test_soft_targets_need_less_data(results):
    found = results["small-data"]
    hard, soft, full = (
        found["systems"][name]["frames"][0]
        for name in ("25%, labels", "25%, soft targets", "all data, baseline")
    )
    assert hard < soft < full
    share = found["fractions"]["25%"]
    assert share["recovered"]["share"] == pytest.approx(
        (soft - hard) / (full - hard)
    )
    assert share["difference"]["frames"] == pytest.approx(soft - hard)
    sweep = share["sweep"]["development"]
    assert share["sweep"]["chosen"] == int(max(sweep, key=sweep.get))
    for curves in share["curves"].values():
        assert len(curves[0]["val_accuracy"]) == 8


@needs_data
def test_the_early_stopped_network_is_that_of_its_best_epoch(study):
    sweep = small_data.plan_sweep(study, 0.25)
    strings = study.development.load(study.root)
    for (model,) in sweep.values():
        logits = models.predict(model.load(study.root), strings)
        right = np.mean(logits.argmax(axis=-1) == strings.labels)
        best = max(model.load_history(study.root)["val_accuracy"])
        assert right == pytest.approx(best)
        assert model.find_development(study.root) == best


def test_every_arm_sees_the_same_copies(tmp_path):
    study = Study(SCALES["paper"], tmp_path)
    scale = study.scale
    models = ensemble.plan(study)
    assert {each.copies for each in models} == {study.plan_train()}
    sweep = ensemble.plan_sweep(study)
    baselines = sweep[scale.epochs]
    controls = [sweep[each] for each in scale.control_epochs]
    assert len({each.seed for each in baselines}) == 30
    assert {each.epochs for each in baselines} == {scale.epochs}
    students = [ensemble.plan_student(study, seed) for seed in range(3)]
    # Shorter than the baselines, and as long as the student.
    assert scale.control_epochs[0] < scale.epochs
    assert students[0].epochs in scale.control_epochs
    for seed, student in enumerate(students):
        assert {each[seed].seed for each in controls} == {student.seed}
        assert student.seed not in {each.seed for each in baselines}
        assert student.soft_targets.copies == student.copies
        assert student.soft_targets.teachers == study.plan_members(seed)
    for fraction in scale.fractions:
        sweep = small_data.plan_sweep(study, fraction)
        for seed in range(3):
            soft = small_data.plan_soft(study, fraction, seed)
            hard = [each[seed] for each in sweep.values()]
            assert {each.copies for each in hard} == {soft.copies}
            assert {each.seed for each in hard} == {soft.seed}
            assert soft.soft_targets.copies == soft.copies
            assert soft.epochs == max(each.epochs for each in hard)
            assert soft.copies.fraction == fraction


def test_nothing_but_a_judgement_sees_the_test(tmp_path):
    """Of all that is computed before it, the search included."""
    study = Study(SCALES["paper"], tmp_path)
    waiting = [
        task
        for each in (experiments.ALL | experiments.SEARCH).values()
        for task in each.plan(study)
    ]
    seen = set()
    while waiting:
        task = waiting.pop()
        if task not in seen:
            seen.add(task)
            waiting += task.needs
            assert study.test not in task.needs
    assert experiments.SEARCH["search"].plan_judgements(study) == []
    seeds = {each.test_seed for each in SCALES.values()}
    assert len(seeds) == len(SCALES)


@needs_data
def test_results_are_written(results, output):
    folder = output / "tiny" / "all-speakers"
    written = json.loads((folder / "results.json").read_text())
    assert written["experiments"] == results
    assert written["command"] == (
        "python -m reproductions.speech --scale tiny align ensemble small-data"
    )
    for name in ("align", "ensemble", "small-data"):
        assert (folder / f"{name}.md").read_text().startswith("| ")
    for name in ("ensemble", "small_data"):
        picture = (folder / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG\r\n")


@needs_data
def test_search(output, results, monkeypatch):
    """After the others, whose networks it shares, so it trains none."""
    monkeypatch.setattr(search, "BEGINNING", {})
    for name in ("SETTINGS", "SMALL_SETTINGS"):
        monkeypatch.setattr(search, name, {"at first": {}})
    monkeypatch.setattr(search, "SMALL", 0.25)
    found = call(output, "search")["experiments"]["search"]
    for setting, each in found["ensemble"].items():
        assert each["ensemble"] > np.mean(each["members"]), setting
    first = found["ensemble"]["at first"]
    systems = results["ensemble"]["systems"]
    for name, system in (
        ("members", "baseline"),
        ("ensemble", "ensemble"),
        ("student", "student, distilled"),
    ):
        np.testing.assert_allclose(
            np.ravel(first[name]), systems[system]["development"]
        )
    sweep = results["ensemble"]["sweep"]
    assert found["sweep"] == [sweep["chosen"], sweep["development"]]
    # The results of the others are still there.
    folder = output / "tiny"
    kept = json.loads((folder / "all-speakers" / "results.json").read_text())
    assert kept["experiments"] == results
    table = (folder / "all-speakers-search" / "search.md").read_text()
    assert table.count("at first") == 2


@needs_data
def test_a_held_out_speaker(output, results):
    found = call(output, "align", "--held-out", "george")
    assert found["held_out"] == "george"
    described = found["experiments"]["align"]["parts"]
    assert [each["recordings"] for each in described.values()] == [160, 80, 60]
    root = output / "tiny" / "tasks"
    with fewer_recordings():
        scale = dataclasses.replace(SCALES["tiny"], epochs=2)
        study = Study(scale, root, "george")
        (model, *_) = study.plan_members(0)
        task = study.plan_judgement(model)
        for each in (model, task.train, task):
            each.run(root)
    strings = study.test.load(root)
    spoken = study.alignment.load_recordings()
    speakers = {spoken[p].speaker for each in strings.spoken for p in each}
    assert speakers == {"george"}
    judged = task.load(root)
    known = results["ensemble"]["systems"]["baseline"]["frames"]
    assert 1 / 20 < np.mean(judged.right) < np.mean(known)


def test_the_search_begins_with_its_first_recipe(tmp_path):
    study = Study(SCALES["paper"], tmp_path)
    plan = search.plan(study)
    first = plan[1]
    assert first.width == 256
    assert first.hard_weight == 0
    assert first.soft_targets.temperature == 2
    students = [
        each for each in plan if each.name.startswith("student, distilled")
    ]
    assert {each.width for each in students} == {128, 256, 384}
    assert {each.hard_weight for each in students} == {0, 0.1, 0.5}
    assert {each.epochs for each in students} == {4, 6, 12, 24}
    assert {each.soft_targets.temperature for each in students} == {1, 2, 5}
    # Students at other temperatures have the same teachers.
    assert [each.soft_targets.temperature for each in students[:3]] == [2, 1, 5]
    assert len({each.soft_targets.teachers for each in students[:3]}) == 1
    assert len({each.key for each in students[:3]}) == 3


def test_log_mels_are_those_of_the_layer_to_the_last_bit():
    audio = np.random.default_rng(0).normal(size=(5, 4000)).astype("float32")
    options = tf.config.optimizer.get_experimental_options()
    for each in audio:
        layer = features.build_layer()
        expected = keras.ops.convert_to_numpy(layer(each[None]))[0].T[:50]
        np.testing.assert_array_equal(features.compute_log_mels(each), expected)
    assert tf.config.optimizer.get_experimental_options() in (
        options,
        {**options, "disable_meta_optimizer": False},
    )


@pytest.fixture(scope="module")
def shown():
    """The results on the page."""
    return json.loads((RESULTS / "results.json").read_text())


def test_the_page_shows_what_was_measured(tmp_path):
    settings = dataclasses.asdict(SCALES["paper"])
    for folder, names, held_out in (
        (RESULTS, [*experiments.ALL], None),
        (RESULTS / "george", ["ensemble"], "george"),
    ):
        shown = json.loads((folder / "results.json").read_text())
        assert shown["held_out"] == held_out
        assert shown["settings"] == json.loads(json.dumps(settings))
        assert list(shown["experiments"]) == names
        drawn = tmp_path / folder.name
        drawn.mkdir()
        for name, found in shown["experiments"].items():
            table = experiments.ALL[name].show(found, drawn)
            assert (folder / f"{name}.md").read_text() == table + "\n"
        pictures = {path.name for path in drawn.glob("*.png")}
        assert {path.name for path in folder.glob("*.png")} == pictures
    shown = json.loads((RESULTS / "search.json").read_text())
    table = experiments.SEARCH["search"].show(
        shown["experiments"]["search"], tmp_path
    )
    assert (RESULTS / "search.md").read_text() == table + "\n"


def test_what_the_page_promises(shown):
    ensemble = shown["experiments"]["ensemble"]
    baseline, together, student = (
        np.mean(ensemble["systems"][name]["frames"])
        for name in ("baseline", "ensemble", "student, distilled")
    )
    assert 0.55 <= baseline <= 0.65
    assert together - baseline >= 0.025
    assert (student - baseline) / (together - baseline) >= 0.7
    differences = ensemble["differences"]
    for control in ("student, labels", "labels, best number of epochs"):
        found = differences[f"student, distilled - {control}"]
        assert found["frames"] >= 0.01
    # Not worse by more than the interval.
    low, _ = differences["student, distilled - baseline"][
        "word_error_rate_interval"
    ]
    assert low <= 0

    fractions = shown["experiments"]["small-data"]["fractions"]
    assert fractions["3%"]["difference"]["frames"] >= 0.1
    for found in fractions.values():
        for curve in found["curves"]["soft targets"]:
            reached = curve["val_accuracy"]
            assert max(reached) - reached[-1] <= 0.005


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        (2, "61.0 (2, chosen, the smallest), 62.0 (4), 60.0 (16)"),
        (4, "61.0 (2), 62.0 (4, chosen), 60.0 (16)"),
        (16, "61.0 (2), 62.0 (4), 60.0 (16, chosen, the largest)"),
    ],
)
def test_a_choice_at_the_edge_is_marked(chosen, shown):
    # As JSON has the numbers of epochs.
    sweep = {"2": 0.61, "4": 0.62, "16": 0.6}
    assert tables.format_sweep(sweep, chosen) == shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["esemble"], "esemble"),
        (["--scale", "huge"], "--scale"),
        (["--held-out", "lucas"], "--held-out"),
        (["search", "align"], "search"),
    ],
)
def test_bad_arguments(capsys, arguments, message):
    with pytest.raises(SystemExit):
        speech.main(arguments)
    assert message in capsys.readouterr().err
