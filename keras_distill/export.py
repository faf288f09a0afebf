import importlib
import os

from keras_distill.validation import check_choice

# The formats of `keras.Model.export`, with the packages that they need.
_FORMATS: dict[str, tuple[str, ...]] = {
    "tf_saved_model": (),
    "litert": (),
    "onnx": ("onnx", "tf2onnx"),
    "openvino": ("openvino",),
    "torch": ("torch",),
}


def export_student(student, filepath, format="tf_saved_model", **kwargs):
    """Exports a student, after checks of the format and its packages."""
    check_choice("format", format, _FORMATS)
    if not student.built:
        raise ValueError(
            "The student is not built and cannot be exported. Call `fit` "
            "first, or call the student on a batch of inputs. "
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
    # For LiteRT, Keras 3.14 accepts only a string.
    student.export(os.fspath(filepath), format=format, **kwargs)
