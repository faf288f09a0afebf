import importlib
import os

from keras_distill.validation import suggest

# The formats of `keras.Model.export`, with the packages that each needs.
_FORMATS: dict[str, tuple[str, ...]] = {
    "tf_saved_model": (),
    "litert": (),
    "onnx": ("onnx", "tf2onnx"),
    "openvino": ("openvino",),
    "torch": ("torch",),
}


def export_student(student, filepath, format="tf_saved_model", **kwargs):
    """Exports a student, once it is sure that this can work.

    Args:
        student: `keras.Model`.
        filepath: Where to write it.
        format: As in `keras.Model.export`.
        **kwargs: More arguments of `keras.Model.export`.

    Raises:
        ImportError: If the format needs a package that is not installed.
        ValueError: If the format is unknown, or the student is not built.
    """
    if format not in _FORMATS:
        raise ValueError(
            f"Unknown `format`. {suggest(str(format), _FORMATS)} "
            f"Received: format={format!r}"
        )
    if not student.built:
        raise ValueError(
            "The student is not built, so there is nothing to export: call "
            "`fit` first, or the student on a batch of inputs. "
            f"Received: student={student!r}"
        )
    for package in _FORMATS[format]:
        try:
            importlib.import_module(package)
        except ImportError:
            extra = "keras-distill[onnx]" if format == "onnx" else package
            raise ImportError(
                f'`format="{format}"` needs the package {package!r}, which is '
                f"not installed. Run: pip install '{extra}'"
            ) from None
    # Keras 3.14 takes only a string for LiteRT.
    student.export(os.fspath(filepath), format=format, **kwargs)
