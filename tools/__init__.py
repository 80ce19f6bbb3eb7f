"""Programs around the relay: fake_vlc, capture, bench, soak, and their rooms."""
