"""The deployment engine: NVIDIA FLARE carries sealed bytes between a coordinator and hospitals, and learns nothing.

Wardround's state machines never run inside FLARE's processes. Beside them, FLARE's job processes hold one dumb relay
each (`controller`, `executor`), reached over a Unix socket that only the same user can open.
"""
