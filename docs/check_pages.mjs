/**
 * Open the built site in Chromium, from the disk: `node docs/check_pages.mjs [--shots DIR] [PAGE.html ...]`,
 * every page unless some are named.
 *
 * It fails where a page reports an error to the console, asks for anything outside the site, is wider than
 * a telephone, or has a serious fault by the rules of axe. playwright-core and axe-core are those of
 * docs/play (`npm ci --prefix docs/play`); CHROMIUM names the browser, by default /usr/bin/chromium.
 */

import { mkdir, readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const require = createRequire(new URL("./play/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
const site = fileURLToPath(new URL("../site/", import.meta.url));
const given = process.argv.indexOf("--shots");
const shots = given > 0 ? process.argv[given + 1] : null;
if (shots) await mkdir(shots, { recursive: true });

const named = process.argv.slice(2).filter((word) => word.endsWith(".html"));
const there = (await readdir(site, { recursive: true })).filter((name) => name.endsWith(".html") && name !== "404.html");
const files = named.length ? named : there.sort();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const faults = [];

for (const name of files) {
  for (const [width, height] of [[1280, 900], [390, 844]]) {
    const page = await browser.newPage({ viewport: { width, height } });
    const say = (text) => console.error(faults[faults.push(`${name} at ${width}: ${text}`) - 1]);
    page.on("pageerror", (error) => say(error.message));
    page.on("console", (message) => message.type() === "error" && !message.text().startsWith("Failed to load") && say(message.text()));
    page.on("requestfailed", (request) => say(`cannot load ${request.url()}`));
    page.on("request", (request) => {
      const url = request.url();
      if (/^https?:/.test(url)) say(`asks for ${url}`);
    });
    await page.goto(pathToFileURL(join(site, name)).href);
    await page.waitForTimeout(200);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 1) say(`is ${wide} pixels too wide`);
    if (shots) await page.screenshot({ path: join(shots, `${name.replaceAll("/", "-")}-${width}.png`), fullPage: true });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"], preload: false }));
    for (const one of violations.filter((found) => ["serious", "critical"].includes(found.impact)))
      say(`${one.id}: ${one.help} (${one.nodes.length}x, ${one.nodes[0].target.join(" ")})`);
    await page.close();
  }
}
await browser.close();
console.log(`${files.length} pages, ${faults.length} faults (${relative(process.cwd(), site)})`);
process.exit(faults.length ? 1 : 0);
