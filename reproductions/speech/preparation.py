"""What is prepared once and kept: the alignment, and the noisy strings."""

import dataclasses

import numpy as np

from reproductions.common.tasks import Task
from reproductions.speech import alignment
from reproductions.speech import corpus
from reproductions.speech import features
from reproductions.speech import recordings

# About so many frames there are in a copy.
_FRAMES = {"train": 94000, "development": 12000, "test": 12000}


@dataclasses.dataclass(frozen=True)
class Alignment(Task):
    """The state of each frame of each recording.

    Args:
        held_out: Name of a speaker whom the densities are not trained on, or
            `None`.
        most: Number of recordings of a digit of a speaker, or `None`: all.
    """

    held_out: str | None
    most: int | None

    result = "states.npz"

    @property
    def work(self):
        return 4e12

    def load_recordings(self):
        """Returns the list of `Recording`s that are aligned."""
        return [
            each
            for each in recordings.load()
            if self.most is None or each.number < self.most
        ]

    def compute(self, folder, root, notify):
        spoken = self.load_recordings()
        log_mels = [features.compute_log_mels(each.audio) for each in spoken]
        train = recordings.split(spoken, self.held_out)["train"]
        observed = _subtract_speaker_mean(
            [features.compute_cepstra(each) for each in log_mels],
            [each.speaker for each in spoken],
            train,
        )
        words = [each.word for each in spoken]
        aligner = alignment.Aligner(self.seed)
        aligner.fit(
            [observed[each] for each in train],
            [log_mels[each] for each in train],
            [words[each] for each in train],
            notify,
        )
        return aligner.align(observed, words), aligner.changed

    def save(self, computed, path):
        states, changed = computed
        np.savez(
            path,
            states=np.concatenate(states),
            lengths=[len(each) for each in states],
            changed=changed,
        )

    def load(self, root):
        """Returns a list of the states of the frames of each recording."""
        with np.load(self.find_result(root)) as kept:
            ends = np.cumsum(kept["lengths"])
            return np.split(kept["states"], ends[:-1])

    def load_changed(self, root):
        """Returns the share of frames in another state, for each round."""
        with np.load(self.find_result(root)) as kept:
            return kept["changed"].tolist()


@dataclasses.dataclass(frozen=True)
class Copies(Task):
    """Strings of words, several times in another order and noise.

    Args:
        alignment: `Alignment`.
        part: `"train"`, `"development"` or `"test"`.
        count: Number of copies.
        fraction: Share of the recordings that is used.
    """

    alignment: Alignment
    part: str
    count: int
    fraction: float

    result = "strings.npz"

    @property
    def needs(self):
        return (self.alignment,)

    @property
    def frames(self):
        """About how many frames they have."""
        return _FRAMES[self.part] * self.count * self.fraction

    @property
    def work(self):
        return 1e6 * self.frames

    def compute(self, folder, root, notify):
        spoken = self.alignment.load_recordings()
        states = self.alignment.load(root)
        parts = recordings.split(spoken, self.alignment.held_out)
        positions = parts[self.part]
        if self.fraction < 1:
            groups = [spoken[each][1:3] for each in positions]
            positions = _draw(positions, groups, self.fraction, self.seed)
        noise = parts["noise"] if self.part == "test" else positions
        copies = []
        for number in range(self.count):
            # So that no part has the noise of another.
            seed = ([*_FRAMES].index(self.part), self.seed, number)
            copies.append(
                corpus.make_strings(spoken, states, positions, noise, seed)
            )
            notify((number + 1) / self.count)
        return corpus.join(copies)

    def save(self, computed, path):
        lengths = [len(each) for each in computed.words]
        np.savez(
            path,
            features=computed.features,
            labels=computed.labels,
            recordings=computed.recordings,
            starts=computed.starts,
            lengths=lengths,
            words=np.concatenate(computed.words),
            spoken=np.concatenate(computed.spoken),
        )

    def load(self, root):
        """Returns the `Strings`."""
        with np.load(self.find_result(root)) as kept:
            ends = np.cumsum(kept["lengths"])[:-1]
            return corpus.Strings(
                kept["features"],
                kept["labels"],
                kept["recordings"],
                kept["starts"],
                [each.tolist() for each in np.split(kept["words"], ends)],
                [each.tolist() for each in np.split(kept["spoken"], ends)],
            )


def _draw(positions, groups, fraction, seed):
    """Draws a share, as evenly from all groups as can be.

    A larger share has all that a smaller one has.
    """
    random = np.random.default_rng(seed)
    drawn = {group: 0 for group in groups}
    ranked = []
    for each in random.permutation(len(positions)):
        group = groups[each]
        ranked.append((drawn[group], len(ranked), positions[each]))
        drawn[group] += 1
    count = round(fraction * len(positions))
    return sorted(position for _, _, position in sorted(ranked)[:count])


def _subtract_speaker_mean(observed, speakers, train):
    """Takes off the mean of each speaker's training, or of all there is."""
    means = {}
    for speaker in set(speakers):
        own = [p for p, each in enumerate(speakers) if each == speaker]
        known = [p for p in train if speakers[p] == speaker]
        means[speaker] = np.concatenate(
            [observed[each] for each in known or own]
        ).mean(axis=0)
    return [
        each - means[speaker]
        for each, speaker in zip(observed, speakers, strict=True)
    ]
