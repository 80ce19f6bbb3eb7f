"""Programs around the relay; most have their parts in a room beside them.

fake_vlc, capture: `replay/`. probe: `probing/`. bench: `benchmarks/`. attacks, soak: `attackers/`.
matrix: `interop/`. Those without one: demo, documents (man pages, completions, tables of options),
hls_viewers, and reloads, which measures. What tools and tests share: `lab/`.
"""
