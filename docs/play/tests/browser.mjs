/** A headless Chromium of the machine, and the page in it, loaded from a file. */

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const PLACES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export const pageFile = fileURLToPath(new URL("../index.html", import.meta.url));

export async function launch() {
  const executablePath = PLACES.find((place) => place && existsSync(place));
  if (executablePath === undefined) throw new Error(`no Chromium at ${PLACES.filter(Boolean).join(", ")}: set CHROMIUM`);
  // Root may not use the sandbox, as in a container.
  return chromium.launch({ executablePath, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
}

/** Open the page with a fragment; what its console complains of is added to `complaints`. */
export async function open(browser, fragment = "", options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (!/^(file|data):/.test(request.url())) complaints.push(`a request to ${request.url()}`);
  });
  await page.goto(`file://${pageFile}${fragment}`);
  await page.waitForSelector("main:not([aria-busy])");
  return { page, context, complaints };
}
