"""Numbers of any size in bits, as the headers of codecs have them."""


class EndError(Exception):
    """The data is cut short, or is none."""


class Bits:
    """Reads numbers from bytes, the highest bit first. What lies beyond the end is an EndError."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next `count` bits."""
        self._left -= count
        if self._left < 0:
            raise EndError
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """The next number in Exp-Golomb code (H.264, 9.1), without sign."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise EndError
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """The next number in Exp-Golomb code with a sign (H.264, 9.1.1)."""
        code = self.golomb()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def unescaped(unit: bytes) -> bytes:
    """Take out what is there so that no start code appears: a 3 behind two zeros (H.264, 7.4.1)."""
    return unit.replace(b"\0\0\3", b"\0\0")
