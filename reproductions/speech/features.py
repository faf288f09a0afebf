"""What the networks and the aligner see of the audio."""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf
from scipy import fft
from scipy import signal

from reproductions.speech.recordings import SAMPLE_RATE

# A frame every 10 ms, each of 25 ms.
STRIDE = SAMPLE_RATE // 100
_LENGTH = SAMPLE_RATE // 40
BANDS = 24
_CEPSTRA = 13
# Frames that a difference is taken over.
_WINDOW = 5


def compute_log_mels(audio):
    """Returns the log-mel spectrum in decibels.

    Args:
        audio: Float array of samples.

    Returns:
        Array of shape `(frames, 24)`. Frame t is centered on sample 80 t.
    """
    with _without_graph_optimizer():
        spectrum = _build_function()(np.float32(audio[None])).numpy()
    return spectrum[0].T[: 1 + (len(audio) - 1) // STRIDE]


def compute_cepstra(log_mels):
    """Returns cepstra with their first and second differences.

    Args:
        log_mels: A result of `compute_log_mels`.

    Returns:
        Array of shape `(frames, 39)`.
    """
    cepstra = fft.dct(log_mels, norm="ortho", axis=-1)[:, :_CEPSTRA]
    differences = [
        signal.savgol_filter(
            cepstra, _WINDOW, polyorder=order, deriv=order, axis=0
        )
        for order in (1, 2)
    ]
    return np.concatenate([cepstra, *differences], axis=-1)


def normalize(features):
    """Returns features with mean 0 and standard deviation 1 in each band."""
    deviation = np.maximum(features.std(axis=0), 1e-3)
    return np.float32((features - features.mean(axis=0)) / deviation)


def build_layer():
    """Returns the Keras layer that computes the spectrum."""
    return keras.layers.MelSpectrogram(
        fft_length=256,
        sequence_stride=STRIDE,
        sequence_length=_LENGTH,
        sampling_rate=SAMPLE_RATE,
        num_mel_bins=BANDS,
        min_freq=60.0,
        max_freq=SAMPLE_RATE / 2,
        top_db=80.0,
    )


@functools.cache
def _build_function():
    """Returns the layer in a graph for all lengths.

    Without one, most of the time goes by outside of the computation.
    """
    return tf.function(
        build_layer(), input_signature=[tf.TensorSpec((1, None), tf.float32)]
    )


@contextlib.contextmanager
def _without_graph_optimizer():
    """Makes a graph compute to the last bit what the layer does without one."""
    before = tf.config.optimizer.get_experimental_options()
    option = "disable_meta_optimizer"
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options(
            {option: before.get(option, False)}
        )
