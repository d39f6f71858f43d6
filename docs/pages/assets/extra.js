// The theme wraps wide tables in boxes that scroll: let the keyboard reach them.
const reachable = () => document.querySelectorAll(".md-typeset__scrollwrap").forEach((box) => { box.tabIndex = 0; });
new MutationObserver(reachable).observe(document.documentElement, { childList: true, subtree: true });
