"""Ends of a run that are no bug: the message is one line for the terminal."""


class TrainingError(RuntimeError):
    """A run that cannot go on; what it saved before stays.

    status: the exit status of a command that it ends.
    """

    status = 1


class NonFiniteLoss(TrainingError):
    """The loss of a step is NaN or infinite."""


class Locked(TrainingError):
    """A work directory in which another run is going on."""

    status = 2


class Interrupted(TrainingError):
    """A run that a signal has ended before its last epoch."""

    def __init__(self, number: int, message: str):
        """number: of the signal."""
        super().__init__(message)
        self.status = 128 + number


class CheckpointError(TrainingError):
    """A checkpoint that cannot be written, or none that can be read."""


class OtherRun(CheckpointError):
    """A checkpoint of another run than the one that reads it."""
