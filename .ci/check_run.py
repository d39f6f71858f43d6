"""Check that a run directory holds a readable store and real pictures, or say what is wrong."""

import argparse
import sys
from pathlib import Path

import numpy as np
import xarray as xr
from PIL import Image


def check_store(path: Path) -> None:
    """A discrete run and a flow are there, each with a finite loss at two steps or more."""
    with xr.open_datatree(path, engine="zarr") as tree:
        flows = [name for name, child in tree.children.items() if child.attrs.get("kind") == "flow"]
        if "discrete" not in tree.children or not flows:
            sys.exit(f"{path}: a discrete run and a flow expected, got: {', '.join(tree.children)}")
        for name in ["discrete", *flows]:
            data = tree[name].dataset
            loss = data["loss"].values
            if loss.shape != (data.sizes["step"],) or loss.size < 2 or not np.isfinite(loss).all():
                sys.exit(f"{path}: group '{name}' has no loss at two or more steps: {loss}")
        print(f"{path}: {', '.join(f'{n} {dict(tree[n].sizes)}' for n in tree.children)}")


def check_figures(folder: Path, names: list[str]) -> None:
    """There is at least one figure, the named ones among them, and each shows something."""
    pictures = sorted(folder.glob("*.png"))
    missing = set(names) - {picture.stem for picture in pictures}
    if not pictures or missing:
        sys.exit(f"{folder}: holds {len(pictures)} figures, missing: {', '.join(missing) or 'all'}")
    for picture in pictures:
        with Image.open(picture) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
        inked = float((pixels != 255).any(axis=1).mean())
        if pixels.shape[0] < 200_000 or inked < 0.01:
            sys.exit(f"{picture}: {pixels.shape[0]} pixels, {inked:.2%} of them not white")
        print(f"{picture}: {pixels.shape[0]} pixels, {inked:.1%} of them not white")


def main() -> None:
    """Check the directory and the figures named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("figures", nargs="*", help="figures that must be there")
    arguments = parser.parse_args()
    check_store(arguments.directory / "results.zarr")
    check_figures(arguments.directory / "figures", arguments.figures)


if __name__ == "__main__":
    main()
