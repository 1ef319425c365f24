"""Every error a user can cause, and the exit code that each one means.

A message is one or two lines: what was found, what was expected, what to do about it.
"""


class CresprError(Exception):
    """Base of all errors that crespr-onnx raises on purpose.

    Attributes:
        exit_code: the exit code with which the command line ends on this error.
    """

    exit_code = 1


class UsageError(CresprError):
    """The command was asked for something that it does not offer."""

    exit_code = 2


class ModelError(CresprError):
    """The model cannot be read, is not valid, or holds nothing that can be compressed."""

    exit_code = 3


class DataError(CresprError):
    """The data does not fit the model."""

    exit_code = 4


class AccuracyGateError(CresprError):
    """The compressed model lost more than ``--max-drop`` allows."""

    exit_code = 5


class SpeedGateError(CresprError):
    """The compressed model is not as fast, or not as small, as was asked for."""

    exit_code = 6


class VerificationError(CresprError):
    """Two models that must compute the same do not."""

    exit_code = 7


class CompileError(CresprError):
    """The target could not compile the model, or its artefact does not run."""

    exit_code = 8
