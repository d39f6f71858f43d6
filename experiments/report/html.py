"""Write a run or a sweep as one HTML file, whose figures can be zoomed, read and filtered.

Everything is in the file, the plotting library too: it opens from a disk, without a network.
"""

import base64
import html
import importlib.util
import io
from pathlib import Path
from string import Template

import xarray as xr

from ..run_directory.directory import CONFIG, ENVIRONMENT, FIGURES, REPORT, writing
from ..store.store import RESULTS_FOLDER, load
from ..system.errors import DirectoryError, UserError
from ..system.files import write_text
from . import summary

# Pictures of the run directory are put in up to so many bytes.
_PICTURE_BYTES = 2_000_000
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body {
  font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 70rem; margin: 1rem auto; padding: 0 1rem;
}
pre {
  overflow-x: auto; background: #f5f5f5; padding: .75rem; font-size: .85rem; line-height: 1.25;
}
summary { cursor: pointer; font-weight: 600; margin: .5rem 0; }
figure img { max-width: 100%; height: auto; }
</style>
$script
</head>
<body>
<main>
<h1>$title</h1>
<p>$description</p>
<h2>Summary</h2>
<pre tabindex="0">$table</pre>
<h2>Figures</h2>
<p>$hint</p>
$figures
<h2>Pictures of the run</h2>
$pictures
<h2>Config</h2>
<details><summary>$config_name</summary><pre tabindex="0">$config</pre></details>
<details><summary>$environment_name</summary><pre tabindex="0">$environment</pre></details>
</main>
</body>
</html>
""")


def write_report(
    directory: str | Path, out: str | Path | None = None, *, overwrite: bool = False
) -> Path:
    """Write the report of a finished or partial run, or of a sweep.

    It has the summary, a figure for each quantity over the steps (zoom with the wheel, read values
    under the pointer, switch to logarithmic axes, hide a curve by its entry in the legend), the
    pictures of the run directory, the config and the environment. The figures of a sweep have a
    slider for each swept key.

    Args:
        directory: a run directory.
        out: the file; by default `report.html` in the run directory.
        overwrite: replace a file that is there.

    Returns:
        Where it was written.

    Raises:
        UserError: if bokeh is not installed.
        DirectoryError: if there are no readable results, or the file is there or cannot be written.
    """
    if importlib.util.find_spec("bokeh") is None:
        raise UserError(
            "a report needs bokeh, which is not installed: pip install 'eosflows[report]'"
        )
    directory = Path(directory)
    if directory.name == RESULTS_FOLDER:
        directory = directory.parent
    path = Path(out).expanduser() if out is not None else directory / REPORT
    if path.is_dir() or path.is_symlink():
        raise DirectoryError(f"{path}: is a {'link' if path.is_symlink() else 'folder'}, no file")
    if path.exists() and not overwrite:
        raise DirectoryError(
            f"{path}: exists already; replace it (--overwrite) or choose another (--out)"
        )
    page = report(load(directory, params=False), directory)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page)
    return path


def report(tree: xr.DataTree, directory: Path) -> str:
    """Return the report of results as HTML.

    Args:
        tree: as `store.load` gives it.
        directory: the run directory, for its config, environment and pictures.
    """
    from bokeh.embed import components
    from bokeh.resources import Resources

    from . import interactive

    layout = interactive.layout(tree)
    script, division = components(layout, wrap_script=True) if layout is not None else ("", "")
    library = Resources(mode="inline", components=["bokeh", "bokeh-widgets"]).render_js()
    is_sweep = summary.SWEEP in tree.children
    hint = (
        "Zoom with the wheel, drag to move, and hide a curve by a click on its entry in the legend."
    )
    if is_sweep:
        hint += " The sliders choose the run."
    name = str(tree.attrs.get("name") or directory.name)
    return _PAGE.substitute(
        title=html.escape(f"{name}: {tree.attrs.get('status', 'unknown')}"),
        description=html.escape(str(tree.attrs.get("description", ""))),
        table=_tables(tree),
        hint=hint if layout is not None else "These results have no curves over the steps.",
        figures=division,
        pictures=_pictures(directory / FIGURES) or "<p>None were drawn.</p>",
        config_name=CONFIG,
        config=_text(directory / CONFIG),
        environment_name=ENVIRONMENT,
        environment=_text(directory / ENVIRONMENT),
        script=(library + script) if layout is not None else "",
    )


def _tables(tree: xr.DataTree) -> str:
    """Return what `eosflows show` prints, escaped."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=120)
    console.print(summary.table(tree))
    if summary.MATRIX in tree.children:
        console.print(summary.matrix(tree))
    written = console.file
    assert isinstance(written, io.StringIO)
    return html.escape("\n".join(line.rstrip() for line in written.getvalue().splitlines()))


def _pictures(folder: Path) -> str:
    """Return the PNG files of a folder as figures, the first ones that fit."""
    shown, left = [], _PICTURE_BYTES
    for path in sorted(folder.glob("*.png")):
        data = path.read_bytes()
        left -= len(data)
        name = html.escape(path.stem)
        if left < 0:
            shown.append(f"<p>{name} is left out, in {html.escape(str(path))}.</p>")
            continue
        source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        shown.append(
            f'<figure><img src="{source}" alt="The figure {name}">'
            f"<figcaption>{name}</figcaption></figure>"
        )
    return "\n".join(shown)


def _text(path: Path) -> str:
    return html.escape(path.read_text("utf-8")) if path.is_file() else "(missing)"
