"""What stops the code of an instance in the middle of an activation."""

from __future__ import annotations

from infinitic.errors import InfiniticError


class Discarded(BaseException):
    """This instance is discarded: what its cleanup code asks for is not recorded."""


class StopActivation(BaseException):
    """The activation has gone wrong; its code must not go on. The reason is in `Recorder.fault`."""


class TooMuchTogether(InfiniticError):
    """The commands of the first `fits` stimuli fill one activation.

    The next stimulus needs an activation of its own.
    """

    def __init__(self, fits: int) -> None:
        super().__init__(f"The commands of the first {fits} stimuli leave no room for those of the next one")
        self.fits = fits
