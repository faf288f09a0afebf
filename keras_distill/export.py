import os


def export_student(student, filepath, format="tf_saved_model", **kwargs):
    """Exports a student, if it is built."""
    if not student.built:
        raise ValueError(
            "The student is not built and cannot be exported. Call `fit` "
            "first, or call the student on a batch of inputs. "
            f"Received: student={student!r}"
        )
    # For LiteRT, Keras 3.14 accepts only a string.
    student.export(os.fspath(filepath), format=format, **kwargs)
