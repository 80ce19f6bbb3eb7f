"""Programs around the relay; most have their parts in a room beside them.

fake_vlc, capture: `replay/`. probe: `probing/`. bench: `benchmarks/`. attacks, soak: `attackers/`.
demo and reloads have none. What tools and tests share: `lab/`.
"""
