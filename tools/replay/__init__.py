"""The parts of fake_vlc and capture: from a file to datagrams in time, and back."""
