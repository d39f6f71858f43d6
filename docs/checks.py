"""What must hold of the built site; each check returns a sentence for each fault that it finds."""

import functools
import importlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import api_pages

# What a browser loads by itself, in which attribute: links that a reader follows are not in it.
_LOADED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "img": ("src", "srcset"),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
}
# Kinds of `<link>` that are no more than statements.
_STATED = {"canonical", "prev", "next", "alternate", "author", "license"}


class _Page(HTMLParser):
    """The identifiers, links and loaded addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.identifiers: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.identifiers |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and not _STATED & set(values.get("rel", "").split()):
            self.loaded.append(values.get("href", ""))
        self.loaded += [values[name] for name in _LOADED.get(tag, ()) if name in values]


def undocumented(packages: tuple[str, ...] = api_pages.PACKAGES) -> list[str]:
    """Find public names without a docstring of their own, read from the sources."""
    import griffe

    loader = griffe.GriffeLoader()
    for package in dict.fromkeys(("figures", *packages)):  # `experiments` has a name of `figures`
        loader.load(package)
    loader.resolve_aliases()
    found = []
    for package in packages:
        module = loader.modules_collection[package]
        for name in importlib.import_module(package).__all__:
            member = module.members.get(name)
            target = member.final_target if member is not None and member.is_alias else member
            if target is None or target.docstring is None or not target.docstring.value.strip():
                found.append(f"{package}.{name} is public and has no docstring.")
    return found


def outside_navigation(config: Path, pages: Path) -> list[str]:
    """Find pages that the navigation does not name, which no reader would find."""
    named = set(re.findall(r":\s*([\w./-]+\.(?:md|html))\s*$", config.read_text("utf-8"), re.M))
    there = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    return [f"{name} is not in the nav of {config.name}." for name in sorted(there - named)]


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Find scripts, styles, fonts and pictures that a browser would fetch from another host."""
    found = []
    for path, page in _pages(site):
        found += [f"{path} loads {one}" for one in page.loaded if urlsplit(one).netloc]
    for path in sorted(site.rglob("*.css")):
        text = path.read_text("utf-8")
        addresses = re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", text)
        found += [f"{path.relative_to(site)} loads {one}" for one in addresses]
    return found


def dead_links(site: Path) -> list[str]:
    """Find links within the site to files or anchors that are not there, in the final HTML."""
    pages = dict(_pages(site))
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
                continue
            target = (site / path).parent / unquote(parts.path) if parts.path else site / path
            target = target.resolve()
            if target.is_dir():
                target /= "index.html"
            # The page of a missing page is shown at any address; its links begin at the root.
            if path == "404.html" and parts.path.startswith("/"):
                continue
            if not target.is_file():
                found.append(f"{path} links to {link}, which is not there.")
            elif parts.fragment and target.suffix == ".html":
                name = target.relative_to(site.resolve()).as_posix()
                if unquote(parts.fragment) not in pages[name].identifiers:
                    found.append(f"{path} links to {link}; there is no such anchor.")
    return found


def missing_from_api(site: Path, packages: tuple[str, ...] = api_pages.PACKAGES) -> list[str]:
    """Find public names that have no entry in the reference."""
    there: set[str] = set()
    for path, page in _pages(site):
        if path.startswith("api/"):
            there |= page.identifiers
    names = (f"{p}.{name}" for p in packages for name in importlib.import_module(p).__all__)
    return [f"{name} is public and not in the API pages." for name in names if name not in there]


def _pages(site: Path) -> Iterator[tuple[str, _Page]]:
    for path in sorted(site.rglob("*.html")):
        yield path.relative_to(site).as_posix(), _parsed(path.read_text("utf-8"))


@functools.cache
def _parsed(text: str) -> _Page:
    return _Page(text)
