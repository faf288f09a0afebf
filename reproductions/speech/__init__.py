"""The paper's sections on speech: `python -m reproductions.speech`.

recordings   spoken digits, split by their numbers
features     log-mel spectra and cepstra
alignment    which state of a hidden Markov model each frame is in
corpus       strings of noisy digits, with a label for each frame
networks     the acoustic model
decoding     from the probabilities of states to words
scores       frame accuracy and word error rate, with intervals
preparation  what is prepared once and kept: the alignment, and the strings
models       what is trained once and kept: networks, and their soft targets
judgement    what is recognized by a network, or by several
study        what all experiments share: scale, recipe and plans
experiments  what is planned for each of the paper's sections, and measured
tables       those that several experiments have
"""
