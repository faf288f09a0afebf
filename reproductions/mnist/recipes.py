"""How the networks are trained, at each scale."""

import dataclasses

import keras

from keras_distill.evaluation.tables import format_markdown
from reproductions.mnist.optimizers import FusedAdam


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Args:
        epochs: Passes over the examples.
        batch_size: Number of examples in a batch.
        optimizer: `"adam"`, or `"sgd"` with Nesterov's momentum of 0.9.
        learning_rate: The first learning rate.
        decay: The power with which it falls to 0 over the training: 1 is a
            straight line. 0 means that it does not fall.
        weight_decay: The share of a weight that is taken off in each step, at
            a learning rate of 1, beside the gradient's step.
        input_dropout: Share of the pixels that the teacher drops.
        dropout: Share of the hidden units that the teacher drops.
        max_norm: Largest norm of the weights into a unit of the teacher.
        ema_momentum: That of the moving average of the weights, which is the
            network at the end. Defaults to `None`: the weights as they are.
    """

    epochs: int
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    decay: float = 1.0
    weight_decay: float = 0.0
    input_dropout: float = 0.0
    dropout: float = 0.0
    max_norm: float | None = None
    ema_momentum: float | None = None

    def build_optimizer(self, steps):
        """Returns the Keras optimizer of a training of so many steps."""
        rate = self.learning_rate
        if self.decay:
            rate = keras.optimizers.schedules.PolynomialDecay(
                rate, steps, end_learning_rate=0.0, power=self.decay
            )
        options = {
            "learning_rate": rate,
            "weight_decay": self.weight_decay or None,
        }
        if self.ema_momentum is not None:
            options |= {"use_ema": True, "ema_momentum": self.ema_momentum}
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(momentum=0.9, nesterov=True, **options)
        return FusedAdam(**options)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large everything is.

    Args:
        train_size: Number of training images, those for validation included.
        seeds: Number of repetitions.
        ensemble: Number of teachers of an ensemble.
        jitter: How images are shifted where they are: `"uniform"` or
            `"triangular"`.
        teacher: `Recipe` of the teachers.
        hard: Of the student that learns from labels.
        soft: Of the one that is distilled.
        hard_jitter: Of the one that learns from labels of shifted images.
        soft_jitter: Of the one that is distilled on shifted images.
        missing: Of those that do not see all classes.
        sweep: Of those of all temperatures and widths.
        fractions: Of those with all images; with fewer it has more epochs.
        rates: Of those of all learning rates.
    """

    train_size: int
    seeds: int
    ensemble: int
    jitter: str
    teacher: Recipe
    hard: Recipe
    soft: Recipe
    hard_jitter: Recipe
    soft_jitter: Recipe
    missing: Recipe
    sweep: Recipe
    fractions: Recipe
    rates: Recipe

    def to_markdown(self):
        """Returns a table of all recipes in Markdown."""
        networks = {
            "teacher": self.teacher,
            "student, labels": self.hard,
            "student, distilled": self.soft,
            "student, labels, jitter": self.hard_jitter,
            "student, distilled, jitter": self.soft_jitter,
            "student, classes missing": self.missing,
            "students of all temperatures and widths": self.sweep,
            "students with all of the data": self.fractions,
            # Theirs is in their own table.
            "students of all learning rates": dataclasses.replace(
                self.rates, learning_rate=0.0
            ),
        }
        fields = {
            "epochs": "epochs",
            "batch_size": "batch",
            "optimizer": "optimizer",
            "learning_rate": "learning rate",
            "decay": "falls with power",
            "weight_decay": "weight decay",
            "input_dropout": "dropout of pixels",
            "dropout": "dropout",
            "max_norm": "largest norm",
            "ema_momentum": "averaged with",
        }
        # Those that no network has have no column.
        used = [
            field
            for field in fields
            if any(getattr(each, field) for each in networks.values())
        ]
        return format_markdown(
            [
                ["network", *(fields[field] for field in used)],
                *(
                    [name, *(str(getattr(each, field) or "") for field in used)]
                    for name, each in networks.items()
                ),
            ]
        )


SCALES = {
    "full": Scale(
        train_size=60000,
        seeds=3,
        ensemble=3,
        jitter="uniform",
        teacher=Recipe(
            120, decay=1.5, weight_decay=0.1, dropout=0.3, max_norm=1.5
        ),
        hard=Recipe(20),
        soft=Recipe(30, batch_size=64),
        hard_jitter=Recipe(40),
        soft_jitter=Recipe(40),
        missing=Recipe(15, batch_size=64),
        sweep=Recipe(5),
        fractions=Recipe(8),
        rates=Recipe(3, optimizer="sgd", decay=0.0),
    ),
    "small": Scale(
        train_size=10000,
        seeds=1,
        ensemble=2,
        jitter="uniform",
        teacher=Recipe(10, weight_decay=0.1, max_norm=2.0),
        hard=Recipe(10),
        soft=Recipe(10),
        hard_jitter=Recipe(10),
        soft_jitter=Recipe(10),
        missing=Recipe(5),
        sweep=Recipe(3),
        fractions=Recipe(3, batch_size=32),
        rates=Recipe(1, optimizer="sgd", decay=0.0),
    ),
    "tiny": Scale(
        train_size=1920,
        seeds=1,
        ensemble=2,
        jitter="uniform",
        teacher=Recipe(
            12,
            batch_size=32,
            learning_rate=2e-3,
            decay=1.5,
            weight_decay=0.05,
            dropout=0.1,
            max_norm=2.0,
        ),
        hard=Recipe(4, batch_size=32, learning_rate=3e-3),
        soft=Recipe(6, batch_size=16, learning_rate=4e-3),
        hard_jitter=Recipe(4, batch_size=32, learning_rate=3e-3),
        soft_jitter=Recipe(6, batch_size=16, learning_rate=4e-3),
        missing=Recipe(4, batch_size=16, learning_rate=4e-3),
        sweep=Recipe(1, batch_size=32),
        fractions=Recipe(1, batch_size=16),
        rates=Recipe(1, batch_size=32, optimizer="sgd", decay=0.0),
    ),
}
