"""What is prepared once and kept: the alignment, and the noisy strings."""

import dataclasses

import numpy as np

from _speech import alignment
from _speech import corpus
from _speech import features
from _speech import recordings
from _training import Task
from _training import draw_share

# Of the seeds of copies, so that no part has the noise of another.
_FIRST_SEEDS = {"train": 0, "development": 1000, "test": 2000}


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
        return 3e12

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
        observed = _subtract_speaker_mean(
            [features.compute_cepstra(each) for each in log_mels],
            [each.speaker for each in spoken],
        )
        words = [each.word for each in spoken]
        train = recordings.split(spoken, self.held_out)["train"]
        aligner = alignment.Aligner(self.seed)
        aligner.fit(
            [observed[each] for each in train],
            [log_mels[each] for each in train],
            [words[each] for each in train],
            notify,
        )
        return [
            aligner.align(each, word)
            for each, word in zip(observed, words, strict=True)
        ]

    def save(self, computed, path):
        lengths = [len(each) for each in computed]
        np.savez(path, states=np.concatenate(computed), lengths=lengths)

    def load(self, root):
        """Returns a list of the states of the frames of each recording."""
        with np.load(self.find_result(root)) as kept:
            ends = np.cumsum(kept["lengths"])
            return np.split(kept["states"], ends[:-1])


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
    def work(self):
        return 5e11 * self.count * self.fraction

    def compute(self, folder, root, notify):
        spoken = self.alignment.load_recordings()
        states = self.alignment.load(root)
        positions = recordings.split(spoken, self.alignment.held_out)[self.part]
        words = np.array([spoken[each].word for each in positions])
        drawn = draw_share(words, self.fraction, self.seed)
        positions = [positions[each] for each in drawn]
        first = _FIRST_SEEDS[self.part] + 100 * self.seed
        copies = []
        for number in range(self.count):
            copies.append(
                corpus.make_strings(spoken, states, positions, first + number)
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


def _subtract_speaker_mean(observed, speakers):
    """Takes the mean of each speaker off what was observed."""
    means = {
        speaker: np.mean(
            np.concatenate(
                [
                    each
                    for each, own in zip(observed, speakers, strict=True)
                    if own == speaker
                ]
            ),
            axis=0,
        )
        for speaker in set(speakers)
    }
    return [
        each - means[speaker]
        for each, speaker in zip(observed, speakers, strict=True)
    ]
