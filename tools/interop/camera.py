"""A network camera: GStreamer's RTSP server at rtsp://127.0.0.1:PORT/camera, until it is killed.

Usage: python3 camera.py PORT, with the system's Python, which has GStreamer's bindings (in Debian
python3-gi and gir1.2-gst-rtsp-server-1.0).
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

MEDIA = """(
    videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=25/1
        ! openh264enc gop-size=25 bitrate=600000 ! rtph264pay name=pay0 pt=96
    audiotestsrc is-live=true wave=ticks ! voaacenc ! rtpmp4gpay name=pay1 pt=97
)"""


def main() -> None:
    """Serve."""
    Gst.init(None)
    factory = GstRtspServer.RTSPMediaFactory(launch=MEDIA, shared=True)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    print("listening", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
