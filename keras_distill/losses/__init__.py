"""Losses between a teacher's and a student's logits."""

from keras_distill.identifiers import retrieve
from keras_distill.losses.distillation_loss import DistillationLoss
from keras_distill.losses.logit_matching import LogitMatching
from keras_distill.losses.soft_target_crossentropy import SoftTargetCrossentropy
from keras_distill.losses.soft_target_kl_divergence import (
    SoftTargetKLDivergence,
)

__all__ = [
    "DistillationLoss",
    "LogitMatching",
    "SoftTargetCrossentropy",
    "SoftTargetKLDivergence",
    "get",
]

BY_NAME = {
    "soft_target_crossentropy": SoftTargetCrossentropy,
    "soft_target_kl_divergence": SoftTargetKLDivergence,
    "logit_matching": LogitMatching,
}


def get(identifier):
    """Retrieves a distillation loss from a name, a config or an instance.

    Example:

    ```python
    loss = keras_distill.losses.get("soft_target_crossentropy")
    ```

    Args:
        identifier: A `DistillationLoss`, a config from
            `keras.saving.serialize_keras_object`, or a class name, also in
            snake case. A name gives a loss with the default arguments.

    Returns:
        A `DistillationLoss`.

    Raises:
        ValueError: If the name is unknown, or the object is of another kind,
            such as a loss of `keras.losses`.
    """
    return retrieve(
        identifier,
        DistillationLoss,
        BY_NAME,
        argument="distillation_loss",
        hint=(
            "Expected `distillation_loss` to be a "
            "`keras_distill.losses.DistillationLoss`, such as "
            "`SoftTargetCrossentropy(temperature=4.0)`. The losses of "
            "`keras.losses` do not take a teacher's logits as `y_true`. "
            "Replace `KLDivergence` by `SoftTargetKLDivergence(4.0)`, and the "
            "squared difference of logits by `LogitMatching()`. For another "
            "loss, subclass `DistillationLoss`."
        ),
    )
