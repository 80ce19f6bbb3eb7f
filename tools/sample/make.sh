#!/bin/sh
# Makes sample.ts, the stream that fake_vlc sends when it is given no file.
#
# testsrc2 moves, and writes the time and the frame number into the picture by itself: no font is
# needed. Sound and picture both last 8 s exactly (375 AAC frames of 1024 samples at 48 kHz are
# 200 pictures at 25/s), so that a loop has no seam. One thread and bitexact: the same ffmpeg makes
# the same bytes. An entry point each second: who joins waits for a picture no longer than that.
set -eu
cd "$(dirname "$0")"
command -v ffmpeg >/dev/null || { echo 'ffmpeg is needed: sudo apt-get install -y ffmpeg' >&2; exit 1; }
ffmpeg -nostdin -hide_banner -loglevel error -y \
  -f lavfi -i testsrc2=size=640x360:rate=25:duration=8 \
  -f lavfi -i sine=frequency=440:beep_factor=4:sample_rate=48000:duration=8 \
  -c:v libx264 -preset slow -profile:v main -pix_fmt yuv420p \
  -b:v 640k -maxrate 640k -bufsize 320k -g 25 -sc_threshold 0 -threads 1 \
  -c:a aac -b:a 64k -frames:a 375 \
  -fflags +bitexact -flags +bitexact -f mpegts sample.tmp
mv sample.tmp sample.ts
ls -l sample.ts
