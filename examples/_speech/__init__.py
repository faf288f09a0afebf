"""The parts of `examples/speech.py`.

recordings  spoken digits, split by their numbers
features    log-mel spectra and cepstra
alignment   which state of a hidden Markov model each frame is in
corpus      strings of noisy digits, with a label for each frame
networks    the acoustic model
decoding    from the probabilities of states to words
scores      frame accuracy and word error rate, with intervals
"""
