"""Errors that a user can cause and correct."""

__all__ = ["ActivationError", "CheckpointError", "LayerError", "LutcoreError"]


class LutcoreError(Exception):
    """Base of every expected user error.

    The message is one line that names the offending value and the remedy; the command line prints
    it without a traceback and exits with status 2.
    """


class CheckpointError(LutcoreError, ValueError):
    """A checkpoint cannot be read, or does not hold what was asked of it."""


class LayerError(LutcoreError, ValueError):
    """A layer's arrays contradict each other, or hold values that no core can compute exactly."""


class ActivationError(LutcoreError, ValueError):
    """Activations of the wrong shape or type, or holding values that cannot be quantised."""
