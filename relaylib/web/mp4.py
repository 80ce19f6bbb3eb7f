"""`/live.mp4`: the stream as fragmented MP4, for Media Source Extensions, as browsers play it.

    GET /live.mp4                  what comes now, from the latest entry point
    GET /live.mp4?back=SECONDS     the same from some seconds ago, as fast as it came

    200  Content-Type: video/mp4; codecs="avc1.64001f, mp4a.40.2"     for `addSourceBuffer`
         X-Behind: 1.42           seconds from the arrival of the first sample to this response
              X-Left-Out: MP2          sound that no browser plays, if there is any; codecs in words
         an init segment, then a fragment every 0.2 s, the first with a picture that needs no other
    415  application/json {"codec": "MPEG-2 video", "error": "a sentence"}: no browser plays this
    503  a sentence: no source, a stream that is not MPEG-TS, codecs that are still not known after
         two seconds, or too many viewers in the past. Try again in a second or two.

Times in it only rise. They begin anywhere, and differ from one response to the next: a page opens
a new MediaSource for each. Where the source changed or its clock jumped, another init segment comes
in place, and times go on. The response ends where codecs change, and at a reload of the relay: the
page asks again. A viewer that is too slow is moved to the newest entry point, and its times have a
hole there.
"""

import json
import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple
from weakref import finalize

from relaylib.errors import HttpError
from relaylib.media.mpegts import PACKET_SIZE
from relaylib.mp4.remuxer import Init, Output, Remuxer, Unplayable
from relaylib.net.loop import Loop
from relaylib.track.track import Track
from relaylib.web.budget import Account, Budget, Places
from relaylib.web.live import Refresh, available, read_back
from relaylib.web.reply import NotYetError, Piece, Response, StreamEndError
from relaylib.web.request import HttpRequest

MOST_PAST = 8
"""Viewers in the past. Each has the stream remuxed for itself; see `budget.Places` for how many
places one address may have."""

LEAD = 3.0
"""Seconds that a viewer in the past is given at once, and stays ahead by."""

BEFORE = 1.5
"""Seconds before now at which remuxing begins, so that codecs are known: sound is waited for."""

LEARN = 0.05
"""Seconds that finding out the codecs may take at once: five times the need at 5 Mb/s. If that is
not enough, or too little of the stream has come, it goes on a moment later."""

SHARE = 0.01
"""Seconds of remuxing for one write, once each `--http-coalesce`: the rest waits for the next."""

LATE = 5.0
"""Seconds that a remux of the live stream may fall behind. Then there is no time to remux
everything, and it begins anew."""

LINGER = 3.0
"""Seconds after which fragments without a reader are forgotten."""

KEPT = 20.0
"""Seconds of fragments that are kept for their readers, `BYTES` at most."""

BYTES = 32 << 20
BYTES_PAST = 8 << 20

PIECE = 8 * 7 * PACKET_SIZE
"""Bytes that are remuxed without a look at the ingest: 0.1 ms."""

_MOST_PIECES = 900  # in one write: sendmsg(2) takes 1,024
_NOWHERE = -1


class Item(NamedTuple):
    """A fragment, or an init segment if it has a `mime`. Its first sample arrived at `began`."""

    data: bytes
    mime: str
    began: float


class Remux:
    """The stream as MP4, from a time on, in numbered items that are kept for a while.

    It goes on when a reader asks for more: without readers it does nothing. `delay` is the number
    of seconds by which it stays behind the stream.
    """

    def __init__(
        self, loop: Loop, track: Track, byte_count: int, account: Account | None = None
    ) -> None:
        """Read nothing yet. `account` pays for the work; None: the work is for everybody."""
        self._loop, self._track, self._account = loop, track, account
        self._remuxer = Remuxer()
        self._room = byte_count
        self._at = 0
        self._items = deque[Item]()
        self._entry = self.end = 0
        self._cut_at = 0.0
        self.delay = self._allowed = 0.0
        self.advanced = -math.inf
        """When a reader last asked for more."""
        self.init: Init | None = None
        """The init segment that the next fragments need."""
        self.unplayable = ""
        """The codec because of which nothing can be played."""

    # --- reading the track

    def begin(self, time: float) -> float:
        """Go to the entry point at this time; return when that arrived."""
        track = self._track
        entry = track.entry(time)
        if entry is None:
            self._at, self._cut_at = track.find(time), time
        else:
            self._at, self._cut_at = entry.at, entry.time
            self._take(self._remuxer.feed(entry.tables), entry.time)
        self._allowed = self._loop.time() - self._cut_at + LATE
        return self._cut_at

    def learn(self, now: float) -> None:
        """Go on until it is known what browsers can play, or for a while."""
        deadline = self._loop.time() + LEARN
        while not (self.init or self.unplayable):
            if not self._step(now - self.delay) or self._loop.time() >= deadline:
                break

    def advance(self, now: float) -> None:
        """Go on up to the present end of the stream, or for a while."""
        if now <= self.advanced:
            return  # another reader has asked just before
        self.advanced = now
        if self._account is None:
            self._go_on(now)
        elif not self._account.wait(now):
            began = self._loop.worked()
            self._go_on(now)
            self._account.spend(self._loop.worked() - began, now)

    def _go_on(self, now: float) -> None:
        deadline = self._loop.time() + SHARE
        while self._step(now - self.delay) and self._loop.time() < deadline:
            pass

    def _step(self, until: float) -> bool:
        """Remux a piece of what had come at `until`; False: there is no more."""
        track, at = self._track, self._at
        if at == track.end:
            return False
        lost = not track.oldest <= at < track.end
        time = until if lost else track.time(at)
        if lost or (not self.delay and until - time > self._allowed):
            self.delay = 0.0
            self._take(self._remuxer.begin_anew(), until)
            self.begin(until)
            return True
        if time > until:
            return False
        self._take_piece(time)
        return True

    def _take_piece(self, time: float) -> None:
        """Take some packets, but none from behind a break."""
        track, at = self._track, self._at
        broken = track.break_behind(at - 1)
        end = min(at + PIECE, track.end)
        if broken is not None:
            if broken.at == at:
                self._take(self._remuxer.begin_anew(), time)
                broken = track.break_behind(at)
            end = min(end, broken.at) if broken else end
        data = b"".join(track.pieces(at, end))
        self._at = end
        self._take(self._remuxer.feed(memoryview(data)), time)
        self._loop.read_priority()

    # --- keeping what is made of it

    def _take(self, outputs: list[Output], time: float) -> None:
        for output in outputs:
            if isinstance(output, Unplayable):
                self.unplayable = output.codec
                continue
            if isinstance(output, Init):
                self.init, self.unplayable = output, ""
                self._keep(Item(output.data, output.mime, self._cut_at))
                self._entry = self.end
            else:
                if output.random_access:
                    self._entry = self.end
                self._keep(Item(output.data, "", self._cut_at))
                self._cut_at = time

    def _keep(self, item: Item) -> None:
        self._items.append(item)
        self.end += 1
        self._room -= len(item.data)
        while len(self._items) > 1:
            if self._room >= 0 and item.began - self._items[0].began <= KEPT:
                break
            self._room += len(self._items.popleft().data)

    @property
    def oldest(self) -> int:
        """Number of the first item that is there."""
        return self.end - len(self._items)

    @property
    def entry(self) -> int:
        """Number of the item that a reader has to begin with, after `init`."""
        return self._entry if self._entry >= self.oldest else self.end

    def __getitem__(self, number: int) -> Item:
        return self._items[number - self.end]

    def began(self, number: int) -> float:
        """Return when the first bytes of an item arrived; it may be the next item."""
        return self[number].began if number < self.end else self._cut_at

    def behind(self, number: int) -> float:
        """Return how many seconds an item is behind the stream; it may be the next item."""
        track, began = self._track, self.began(max(number, self.oldest))
        return max(0.0, track.time(track.end) - began) if track.end > track.oldest else 0.0


class Mp4Stream:
    """The stream of one viewer: places among the items of a remux, read without a copy."""

    __slots__ = ("__weakref__", "_begun", "_mime", "_next", "_remux", "skipped")

    def __init__(self, remux: Remux) -> None:
        self._remux = remux
        self._begun = list[Piece]()  # bytes that come before the next item
        self.skipped = 0
        self._mime = ""
        self._enter()

    def _enter(self) -> None:
        """Begin where decoding can start; if the codecs differ, end."""
        init = self._remux.init
        assert init is not None
        self._next = self._remux.entry
        if self._mime in ("", init.mime):
            self._mime = init.mime
            self._begun.append(init.data)
        else:
            self._next = _NOWHERE

    def look(self, until: float, most: int) -> Sequence[Piece]:
        """Return the next pieces; see `reply.StreamBody`."""
        remux = self._remux
        remux.advance(until)
        if 0 <= self._next < remux.oldest:
            self.skipped += 1
            self._enter()
        pieces = list[Piece](self._begun)
        byte_count, number = sum(map(len, pieces)), self._next
        has_ended = number == _NOWHERE
        while byte_count < most and len(pieces) < _MOST_PIECES and 0 <= number < remux.end:
            item = remux[number]
            if item.mime not in ("", self._mime):
                has_ended = True
                break
            pieces.append(item.data)
            byte_count += len(item.data)
            number += 1
        if not pieces and (has_ended or remux.unplayable):
            raise StreamEndError("other_codecs")
        return pieces

    def taken(self, byte_count: int) -> None:
        """Note how much was sent; see `reply.StreamBody`."""
        while byte_count > 0:
            if self._begun:
                piece = self._begun.pop(0)
            else:
                piece = self._remux[self._next].data
                self._next += 1
            if byte_count < len(piece):
                self._begun.insert(0, memoryview(piece)[byte_count:])
            byte_count -= len(piece)

    def delay(self, _now: float) -> float:
        """Return how far behind it is; see `reply.MediaStream`."""
        return self._remux.behind(self._next)

    def export(self) -> None:
        """Return nothing: the stream ends with this program, and the page asks again."""
        return


class Mp4:
    """The resource; without a track there is no stream. `refresh` brings the track up to date."""

    def __init__(
        self, loop: Loop, track: Track | None, refresh: Refresh, budget: Budget | None = None
    ) -> None:
        self._loop = loop
        self._track = track
        self._refresh = refresh
        self._shared: Remux | None = None
        self._asked_at = -math.inf
        self._budget = budget or Budget()
        self._past = Places(MOST_PAST, self._budget.is_exempt)

    def respond(self, request: HttpRequest, now: float) -> Response:
        """Begin a stream, or say why no browser can play it.

        Raises:
            HttpError: see the top of this file; 400: `back` is no number.
        """
        back = read_back(request)
        self._refresh()
        track = available(self._track, now)
        if back:
            return _begin(self._of_past(track, now, back, request.client), now)
        return _begin(self._of_now(track, now), now)

    def _of_now(self, track: Track, now: float) -> Remux:
        self._asked_at = now
        if self._shared is None:
            self._shared = Remux(self._loop, track, BYTES)
            self._shared.begin(now - BEFORE)
            self._loop.call_later(LINGER, self._forget)
        else:
            self._shared.advance(now)
        return self._shared

    def _forget(self) -> None:
        """Forget what no reader has asked for lately."""
        if self._shared and self._loop.time() - max(self._asked_at, self._shared.advanced) > LINGER:
            self._shared = None
        else:
            self._loop.call_later(LINGER, self._forget)

    def _of_past(self, track: Track, now: float, back: float, client: str) -> Remux:
        if not self._past.may_take(client):
            text = f"ya hay {MOST_PAST} espectadores en diferido, o muchos desde {client}"
            raise HttpError(503, f"{text}: pruebe mas tarde, o sin back")
        remux = Remux(self._loop, track, BYTES_PAST, Account(self._budget, client))
        remux.delay = max(0.0, now - remux.begin(now - back) - LEAD)
        self._past.take(client)
        finalize(remux, self._past.leave, client).atexit = False
        return remux


def _begin(remux: Remux, now: float) -> Response:
    remux.learn(now)
    if remux.unplayable:
        return _unplayable(remux.unplayable)
    if remux.init is None:
        text = "aun no se conocen los codecs de la fuente"
        raise NotYetError(text, lambda _request, now: _begin(remux, now))
    headers = {"X-Behind": f"{max(0.0, now - remux.began(remux.entry)):.2f}"}
    if remux.init.unplayable:
        headers["X-Left-Out"] = ", ".join(remux.init.unplayable)
    return Response(Mp4Stream(remux), remux.init.mime, is_media=True, headers=headers)


def _unplayable(codec: str) -> Response:
    sentence = f"los navegadores no reproducen {codec}: vea /live.ts con VLC"
    body = json.dumps({"codec": codec, "error": sentence}).encode()
    return Response(body, "application/json", 415)
