"""Files of sweeps, for tests of them."""

from pathlib import Path

from backend.sweep_space import Space, read_space


def written(folder: Path, text: str) -> Path:
    path = folder / "beta.toml"
    path.write_text(text)
    return path


def sweep(folder: Path, text: str) -> Space:
    return read_space(written(folder, f"output_dir = '{folder / 'runs'}'\n{text}"))
