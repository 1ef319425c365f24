"""The geometry of a convolution along one spatial axis."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a convolution.

    Attributes:
        size: input extent.
        out: output extent.
        kernel: taps.
        stride: step between outputs.
        dilation: step between taps.
        before: padding in front.
    """

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    before: int

    @property
    def phases(self) -> int:
        """How many residues modulo the stride the taps read."""
        return self.stride if self.kernel > 1 else 1

    @property
    def reach(self) -> int:
        """Offset of the last tap within its phase."""
        return (self.kernel - 1) * self.dilation // self.stride

    def pitch(self) -> int:
        """Smallest row length for which reading past a row's end finds the padding it should.

        A tap that runs off the right end of a row lands at the start of the next; that is
        right as long as both places are padding.
        """
        full = self.out + self.reach
        for pitch in range(self.out, full):
            right_is_padding = pitch * self.stride - self.before >= self.size
            last_wrapped = (full - pitch) * self.stride - 1 - self.before
            if right_is_padding and last_wrapped < 0:
                return pitch
        return full
