/**
 * Build the page, one file that needs no other: `node build.mjs [--out FILE]`; with `--tests` also
 * what its tests import, build/core.mjs.
 */

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

async function bundled(entry, options) {
  const { outputFiles } = await build({
    entryPoints: [here(entry)], bundle: true, write: false, target: "es2022", charset: "utf8", legalComments: "none", ...options,
  });
  return outputFiles[0].text;
}

/** The page as text. */
export async function page() {
  const [template, style, script] = await Promise.all([
    readFile(here("src/template.html"), "utf8"),
    bundled("src/style.css", { minify: true, loader: { ".css": "css" } }),
    bundled("src/main.ts", { minify: true, format: "iife" }),
  ]);
  // Within a script element only "</script" ends the script. A replacement by a function leaves "$" alone.
  const safe = script.trim().replaceAll("</script", "<\\/script");
  return template.replace("/*STYLE*/", () => style.trim()).replace("/*SCRIPT*/", () => safe);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const given = process.argv.indexOf("--out");
  const out = given > 0 ? process.argv[given + 1] : here("index.html");
  await mkdir(dirname(out), { recursive: true });
  await writeFile(out, await page());
  if (process.argv.includes("--tests")) {
    await build({
      entryPoints: [here("src/core.ts")], bundle: true, format: "esm", platform: "neutral", outfile: here("build/core.mjs"), target: "es2022",
    });
  }
}
