"""Numbers of any size in bits, as the headers of codecs have them."""


class EndError(Exception):
    """The data is cut short, or is none."""


class Bits:
    """Reads numbers from bytes, the highest bit first. What lies beyond the end is an EndError.

    A number costs the same wherever it stands: one large integer of all bytes, which is shorter to
    write, would be copied for each.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0  # in bits

    def take(self, count: int) -> int:
        """The next `count` bits."""
        first, end = self._at, self._at + count
        if end > 8 * len(self._data):
            raise EndError
        self._at = end
        behind = end + 7 >> 3
        number = int.from_bytes(self._data[first >> 3 : behind], "big")
        return number >> 8 * behind - end & (1 << count) - 1

    def golomb(self) -> int:
        """The next number in Exp-Golomb code (H.264, 9.1), without sign."""
        first = self._at >> 3
        ahead = int.from_bytes(self._data[first : first + 5].ljust(5, b"\0"), "big")
        room = 40 - (self._at & 7)
        zeros = room - (ahead & (1 << room) - 1).bit_length()
        if zeros > 32:
            raise EndError
        self._at += zeros
        return self.take(zeros + 1) - 1

    def signed(self) -> int:
        """The next number in Exp-Golomb code with a sign (H.264, 9.1.1)."""
        code = self.golomb()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def unescaped(unit: bytes) -> bytes:
    """Take out what is there so that no start code appears: a 3 behind two zeros (H.264, 7.4.1)."""
    return unit.replace(b"\0\0\3", b"\0\0")
