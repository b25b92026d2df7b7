from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .pictures import pattern, save


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp", ".gif", ".ppm"])
def test_every_format_is_read_in_a_fresh_process(tmp_path: Path, suffix: str) -> None:
    """Pillow registers formats lazily: what one process read first must not decide what the next can read."""
    path = save(tmp_path / f"a{suffix}", pattern(1))
    program = (
        "import sys; from pathlib import Path; from wardround.medical_datasets.pixels import read_rgb; "
        "print(read_rgb(Path(sys.argv[1])).shape)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(96, 96, 3)", done.stderr
