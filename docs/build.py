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


def gather() -> None:
    """Lay out build/pages: the sources, pictures of the gallery, generated pages of the API."""
    import api_pages

    shutil.rmtree(GATHERED, ignore_errors=True)
    shutil.copytree(SOURCES, GATHERED)
    shutil.copytree(ROOT / "figures" / "gallery", GATHERED / "gallery")
    if PLAY.exists():
        (GATHERED / "play").mkdir()
        shutil.copy(PLAY, GATHERED / "play")
    for name, text in api_pages.pages().items():
        path = GATHERED / "api" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")


def execute() -> list[str]:
    """Run the code of the gathered pages, then that of their notebooks; return what failed."""
    pages = sorted(
        path.relative_to(GATHERED).as_posix()
        for path in GATHERED.rglob("*.md")
        if path.parent.name != "api"
    )
    named = [page for group in GROUPS for page in group]
    groups = [*map(list, GROUPS), [page for page in pages if page not in named]]
    # JAX has threads, which a fork would lose.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        return [failure for found in pool.map(_execute_group, groups) for failure in found]


def _execute_group(pages: list[str]) -> list[str]:
    import execute
    import notebooks

    failures = execute.run_group(GATHERED / page for page in pages)
    if not failures:
        for page in pages:
            failures += notebooks.write(page, GATHERED, SOURCES, GATHERED / "notebooks")
    return failures


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

    os.chdir(ROOT)
    started = time.monotonic()
    gather()
    problems = checks.undocumented() + checks.outside_navigation(ROOT / "mkdocs.yml", GATHERED)
    if problems or (problems := execute()):
        return _report(problems)
    print(f"pages executed, {time.monotonic() - started:.0f} s", flush=True)
    try:
        render()
    except subprocess.CalledProcessError:
        return _report(["zensical found the above."])
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
