"""`/live.mp4`: the stream as fragmented MP4, for Media Source Extensions, as browsers play it.

    GET /live.mp4                  what comes now, from the latest random access point
    GET /live.mp4?back=SECONDS     the same from some seconds ago, as fast as it came

    200  Content-Type: video/mp4; codecs="avc1.64001f, mp4a.40.2"     for `addSourceBuffer`
         X-Behind: 1.42           seconds from the arrival of the first sample to this response
         X-Left-Out: MP2          sound that no browser plays, where there is such; codecs in words
         an init segment, then a fragment every 0.2 s, the first with a picture that needs no other
    415  application/json {"codec": "MPEG-2 video", "error": "a sentence"}: no browser plays this
    503  a sentence: no source, a stream that is not MPEG-TS, codecs that are not known yet, or too
         many viewers in the past. Try again in a second or two.

Times in it only rise. They begin anywhere, and differ from one response to the next: a page opens
a new MediaSource for each. Where the source changed or its clock jumped, another init segment comes
in place, and times go on. The response ends where codecs change, and at a reload of the relay: the
page asks again. A viewer that is too slow is moved to the newest random access fragment: its times
have a hole there.
"""
