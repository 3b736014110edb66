"""Ends of a run that are no bug: the message is one line for the terminal."""


class TrainingError(RuntimeError):
    """A run that cannot go on; what it saved before stays."""


class NonFiniteLoss(TrainingError):
    """The loss of a step is NaN or infinite."""


class Locked(TrainingError):
    """A work directory in which another run is going on."""


class CheckpointError(TrainingError):
    """A checkpoint that cannot be written, or none that can be read."""


class OtherRun(CheckpointError):
    """A checkpoint of another run than the one that reads it."""
