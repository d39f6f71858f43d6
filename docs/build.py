"""Build the documentation: `python docs/build.py`, or `make docs`.

It gathers what the pages are made of in build/pages, runs zensical on them, which executes their
code, and checks the result. What fails the build: a block of code that raises, a link to nothing, a
public name without a docstring, a page outside the navigation, a page that loads something from
elsewhere. Nothing here needs a network.
"""

import concurrent.futures
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "docs" / "pages"
GATHERED = ROOT / "build" / "pages"
NOTEBOOKS = ROOT / "build" / "notebooks"
SITE = ROOT / "site"
PLAY = ROOT / "docs" / "play" / "index.html"
# What the theme's plugin for reading from a disk would load; docs/pages/assets has it.
_SHIM = "https://unpkg.com/iframe-worker/shim"
# Pages that share compiled programs, the longest groups first; all others are a group too.
GROUPS = (
    (
        "choose.md",
        "index.md",
        "after.md",
        "flows/gradient.md",
        "flows/central.md",
        "flows/rod.md",
        "flows/parity.md",
    ),
    ("own/networks.md", "own/loss.md", "own/kinds.md"),
    ("experiments.md", "store.md"),
    ("flows/ball.md", "flows/dissipative.md"),
)
PROCESSES = 2


def lay_out() -> None:
    """Lay out build/pages: the sources, the pictures of the gallery and the page to touch."""
    shutil.rmtree(GATHERED, ignore_errors=True)
    shutil.rmtree(NOTEBOOKS, ignore_errors=True)
    shutil.copytree(SOURCES, GATHERED)
    shutil.copytree(ROOT / "figures" / "gallery", GATHERED / "gallery")
    if PLAY.exists():
        (GATHERED / "play").mkdir()
        shutil.copy(PLAY, GATHERED / "play")


def write_api_pages() -> list[str]:
    """Write the pages of the API; return what has no docstring, and pages without a way to them."""
    import api_pages
    import checks

    for name, text in api_pages.pages().items():
        path = GATHERED / "api" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    return checks.undocumented() + checks.outside_navigation(ROOT / "mkdocs.yml", GATHERED)


def groups() -> list[list[str]]:
    """Return the pages by the group in which their code is run."""
    pages = sorted(path.relative_to(GATHERED).as_posix() for path in GATHERED.rglob("*.md"))
    named = [page for group in GROUPS for page in group]
    return [*map(list, GROUPS), [page for page in pages if page not in named]]


def run_pages(pages: list[str]) -> list[str]:
    """Run the code of pages, in a process of the pool; return what failed."""
    import execute

    return execute.run_group(GATHERED / page for page in pages)


def run_notebooks(page: str) -> list[str]:
    """Run the notebooks made from a finished page, in a process of the pool."""
    import notebooks

    return notebooks.write(page, GATHERED, SOURCES, NOTEBOOKS)


def render() -> None:
    """Run zensical in a process of its own, which ends with an error for a link to nothing.

    Raises:
        subprocess.CalledProcessError: If zensical aborts; it has printed why.
    """
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    subprocess.run(command, cwd=ROOT, check=True)


def localise() -> None:
    """Let the pages load their one foreign script from the site: search needs it on a disk."""
    for path in SITE.rglob("*.html"):
        to_root = "../" * (len(path.relative_to(SITE).parts) - 1)
        text = path.read_text("utf-8")
        path.write_text(text.replace(_SHIM, f"{to_root}assets/iframe-worker.js"), "utf-8")


def main() -> int:
    """Build all, and return the exit code."""
    import checks
    import notebooks

    os.chdir(ROOT)
    started = time.monotonic()
    lay_out()
    # JAX has threads, which a fork would lose.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        running = {pool.submit(run_pages, pages): pages for pages in groups()}
        problems = write_api_pages()
        runs_of_notebooks = []
        for finished in concurrent.futures.as_completed(running):
            problems += (failures := finished.result())
            if not failures:
                made_from = [page for page in running[finished] if page in notebooks.PAGES.values()]
                runs_of_notebooks += [pool.submit(run_notebooks, page) for page in made_from]
        print(f"pages executed, {time.monotonic() - started:.0f} s", flush=True)
        if not problems:
            try:
                render()  # beside the notebooks, which it does not read
            except subprocess.CalledProcessError:
                problems.append("zensical found the above.")
        problems += [failure for run in runs_of_notebooks for failure in run.result()]
    if problems:
        return _report(problems)
    shutil.copytree(NOTEBOOKS, SITE / "notebooks")
    localise()
    problems += checks.loaded_from_elsewhere(SITE)
    problems += checks.dead_links(SITE)
    problems += checks.missing_from_api(SITE)
    print(f"{SITE.relative_to(ROOT)}/index.html, {time.monotonic() - started:.0f} s")
    return _report(problems)


def _report(problems: list[str]) -> int:
    for problem in problems:
        print(f"docs: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), str(ROOT / "docs"), os.environ.get("PYTHONPATH", "")]
    )
    sys.exit(main())
