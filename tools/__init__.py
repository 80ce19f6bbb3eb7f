"""Programs around the relay; each has its parts in a room beside it.

fake_vlc, capture: `replay/`. bench: `benchmarks/`. attacks, soak: `attackers/`.
What tools and tests share: `lab/`.
"""
