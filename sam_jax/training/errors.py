"""Ends of a run that are no bug: the message is one line for the terminal."""


class TrainingError(RuntimeError):
    """A run that cannot go on; what it saved before stays.

    status: the exit status of a command that it ends.
    together: whether all processes of the run end with it, and none waits for another.
    """

    status = 1
    together = False


class NonFiniteLoss(TrainingError):
    """The loss of a step is NaN or infinite."""


class Locked(TrainingError):
    """A work directory in which another run is going on."""

    status = 2


class Interrupted(TrainingError):
    """A run that a signal has ended before its last epoch."""

    def __init__(self, number: int, message: str, together: bool = False):
        """number: of the signal."""
        super().__init__(message)
        self.status, self.together = 128 + number, together


class CheckpointError(TrainingError):
    """A checkpoint that cannot be written, or none that can be read."""


class OtherRun(CheckpointError):
    """A checkpoint of another run than the one that reads it."""


class ConfigError(ValueError):
    """A configuration that no run can be made of; the message is one line."""
