"""The paper's section on MNIST: `python -m reproductions.mnist`.

data         the images: split, shifted, in batches
networks     the paper's teacher and students
recipes      how they are trained, at each scale
runs         one training: of which network, and on what
study        what all experiments share
experiments  what is trained for each part of section 3, and measured
paper        what the paper reports, beside it
"""
