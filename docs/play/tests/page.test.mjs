/**
 * The built page in a real browser, from a file.
 *
 * Times are printed, and no test fails by them: the machine may have other work.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { page as build } from "../build.mjs";
import { launch, open, pageFile } from "./browser.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FIVE = "flows=gradient.corrected.central.rod.parity";
/** With reduced motion the page waits for its reader: a test then decides how many steps are made. */
const STILL = { reducedMotion: "reduce" };
const PHONE = { viewport: { width: 360, height: 780 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

/** Test a page with a fragment; whatever its console complains of fails the test. */
function onPage(name, fragment, options, body) {
  test(name, async (context) => {
    const opened = await open(browser, fragment, options);
    try {
      await body(opened.page, context);
      assert.deepEqual(opened.complaints, []);
    } finally {
      await opened.context.close();
    }
  });
}

const clock = async (page) => Number((await page.textContent("#clock")).replaceAll(",", ""));
const until = (page, step) =>
  page.waitForFunction((least) => Number(document.getElementById("clock").textContent.replaceAll(",", "")) >= least, step);

async function steps(page, count) {
  const before = await clock(page);
  await page.evaluate((count) => {
    for (let i = 0; i < count; i++) document.getElementById("step").click();
  }, count);
  await until(page, before + count);
}

/** A hash of what a canvas shows. */
async function picture(page, id) {
  const shown = await page.evaluate(async (id) => {
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 60)));
    return document.getElementById(id).toDataURL();
  }, id);
  return createHash("sha256").update(shown).digest("hex");
}

const pictures = async (page) => [await picture(page, "trails"), await picture(page, "sharpness"), await picture(page, "error")];

/** The table of numbers, by row. */
async function numbers(page) {
  await page.evaluate(() => (document.querySelector("details.numbers").open = true));
  await page.waitForFunction(() => document.querySelectorAll("#numbers tr").length > 0);
  await page.evaluate(() => new Promise((done) => setTimeout(done, 80)));
  return page.evaluate(() =>
    Object.fromEntries([...document.querySelectorAll("#numbers tr")].map((row) => {
      const [name, ...cells] = [...row.children].map((cell) => cell.textContent);
      return [name, cells];
    })));
}

test("the committed page is what its sources give", async () => {
  const committed = await readFile(pageFile, "utf8");
  assert.equal(committed, await build(), "run `npm run build` in docs/play, and commit index.html");
  const size = Buffer.byteLength(committed);
  console.log(`# size ${(size / 1000).toFixed(1)} kB`);
  assert.ok(size < 300_000, `${size} bytes`);
  assert.doesNotMatch(committed, /https?:\/\/|\beval\(|new Function/);
});

onPage("it paints, and plays by itself", "", {}, async (page) => {
  await until(page, 20);
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
  const ready = await page.evaluate(() => performance.getEntriesByName("ready")[0].startTime);
  console.log(`# first paint after ${paint.toFixed(0)} ms, landscape after ${ready.toFixed(0)} ms`);
  assert.equal(await page.textContent("#play"), "Pause");
  assert.match(await page.textContent("#threshold-value"), /2\/η = 6\.667/);
});

onPage("five flows run", `#${FIVE}&speed=120`, {}, async (page) => {
  await until(page, 30);
  // What the page's thread itself uses of a processor, whatever else the machine does.
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const used = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return metrics.find(({ name }) => name === "TaskDuration").value;
  };
  const before = await used();
  const frames = await page.evaluate(async () => {
    const times = [];
    let last = await new Promise(requestAnimationFrame);
    while (times.length < 120) {
      const now = await new Promise(requestAnimationFrame);
      times.push(now - last);
      last = now;
    }
    return times.sort((a, b) => a - b);
  });
  const share = (1000 * ((await used()) - before)) / frames.length;
  const at = (part) => frames[Math.floor(part * (frames.length - 1))].toFixed(1);
  console.log(`# frames: median ${at(0.5)} ms, 95% ${at(0.95)} ms, longest ${at(1)} ms; processor time of the page in one: ${share.toFixed(1)} ms`);
  assert.ok((await clock(page)) > 40);
});

onPage("play, pause, step and reset do what they say", "", {}, async (page) => {
  await until(page, 5);
  await page.click("#play");
  assert.equal(await page.textContent("#play"), "Play");
  await page.waitForTimeout(80);
  const at = await clock(page);
  await page.waitForTimeout(200);
  assert.equal(await clock(page), at);
  await page.click("#step");
  await until(page, at + 1);
  assert.match(await page.textContent("#live"), new RegExp(`^Step ${at + 1}\\. Gradient descent is at x .* threshold 6\\.67\\. Mean tracking errors: .*Parity flow`));
  await page.click("#reset");
  await page.waitForFunction(() => document.getElementById("clock").textContent === "0");
});

onPage("each slider changes the curves", "#loss=product&flows=gradient.corrected.central.rod.parity.ball.mechanics&radius=0.1", STILL, async (page) => {
  await steps(page, 12);
  let last = await pictures(page);
  const sliders = [["rate", 0, [0, 1, 2]], ["momentum", 2, [0, 1, 2]], ["radius", 4, [0, 2]], ["friction", 6, [0]]];
  for (const [id, , changes] of sliders) {
    const value = await page.textContent(`#${id}-value`);
    await page.focus(`#${id}`);
    for (let i = 0; i < 6; i++) await page.keyboard.press("ArrowRight");
    assert.notEqual(await page.textContent(`#${id}-value`), value, id);
    await until(page, 12);
    const now = await pictures(page);
    for (const i of changes) assert.notEqual(now[i], last[i], `${id} leaves ${["the landscape", "the sharpness", "the error"][i]} as it was`);
    last = now;
  }
  // Central flow knows no momentum, and says so.
  assert.match(await page.textContent("#flows"), /Central flow models gradient descent without momentum/);
});

onPage("a flow is shown while it is checked", "#flows=gradient", STILL, async (page) => {
  await steps(page, 3);
  const [without] = await pictures(page);
  await page.check("#flow-parity");
  await until(page, 3);
  assert.notEqual((await pictures(page))[0], without);
  assert.ok((await numbers(page))["Parity flow"]);
  const [withIt] = await pictures(page);
  await page.uncheck("#flow-parity");
  assert.notEqual((await pictures(page))[0], withIt);
  assert.equal((await numbers(page))["Parity flow"], undefined);
});

onPage("the start is moved by keys, by the mouse and by numbers", "#loss=ring", STILL, async (page) => {
  const start = async () => [Number(await page.inputValue("#start-x")), Number(await page.inputValue("#start-y"))];
  const [x, y] = await start();
  await page.focus("#start");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Shift+ArrowUp");
  const [kx, ky] = await start();
  assert.ok(kx > x && ky > y && ky - y > 5 * (kx - x) * 0.5, `${[kx, ky]}`);
  assert.match(await page.getAttribute("#start", "aria-label"), /^Start at x 0\.\d+, y 0\.\d+$/);
  const box = await page.locator("#start").boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2 + 60, box.y + box.height / 2 - 30, { steps: 4 });
  await page.mouse.up();
  const [mx, my] = await start();
  assert.ok(mx > kx + 0.1 && my > ky + 0.05, `${[mx, my]}`);
  await page.fill("#start-x", "-0.5");
  await page.keyboard.press("Enter");
  assert.equal((await start())[0], -0.5);
  await page.waitForTimeout(300);
  assert.match(page.url(), /x=-0\.5&/);
});

onPage("all controls are reached and used by the keyboard", "", STILL, async (page) => {
  const reached = new Set();
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press("Tab");
    const id = await page.evaluate(() => document.activeElement.id || document.activeElement.name || document.activeElement.tagName);
    if (id === "BODY" || (reached.has("copy") && id === "A")) break;
    reached.add(id);
    const visible = await page.evaluate(() => {
      const { outlineStyle } = getComputedStyle(document.activeElement);
      return outlineStyle !== "none" || getComputedStyle(document.activeElement, "::before").outlineStyle !== "none";
    });
    assert.ok(visible, `the focus on ${id} cannot be seen`);
  }
  for (const id of ["A", "start", "zoom-in", "play", "step", "reset", "speed", "loss", "start-x", "rate", "momentum", "flow-gradient", "flow-mechanics", "rank", "copy"]) {
    assert.ok(reached.has(id), `${id} is not reached: ${[...reached]}`);
  }
  await page.focus("#flow-mechanics");
  await page.keyboard.press("Space");
  assert.ok(await page.isVisible("#friction"));
  // Space plays only where it is not a key of the control that has the focus.
  assert.equal(await page.textContent("#play"), "Play");
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("Space");
  assert.equal(await page.textContent("#play"), "Pause");
});

test("a link shows the same view again", async () => {
  const fragment = "#loss=formula&f=x%5E2%2B2*y%5E2%2Bcos%283*x*y%29&x=1.5&y=-0.75&rate=0.1&momentum=0.3&flows=corrected.rod.ball&radius=0.05&rank=1&speed=33";
  const first = await open(browser, fragment, STILL);
  await first.page.focus("#rate");
  await first.page.keyboard.press("ArrowRight");
  await first.page.click("#zoom-in");
  await steps(first.page, 15);
  await first.page.waitForTimeout(300);
  const address = new URL(first.page.url()).hash;
  assert.notEqual(address, fragment);
  const second = await open(browser, address, STILL);
  await steps(second.page, 15);
  assert.deepEqual(await numbers(second.page), await numbers(first.page));
  for (const id of ["loss", "formula", "rate", "momentum", "radius", "speed", "start-x", "start-y"]) {
    assert.equal(await second.page.inputValue(`#${id}`), await first.page.inputValue(`#${id}`), id);
  }
  assert.equal(await picture(second.page, "landscape"), await picture(first.page, "landscape"));
  assert.deepEqual([...first.complaints, ...second.complaints], []);
  await Promise.all([first.context.close(), second.context.close()]);
});

onPage("what an address says that is not understood is said, and ignored", "#loss=valleys&rate=-3&x=1e9&flows=rod.euler&rank=7&window=1_2", STILL, async (page) => {
  const text = await page.textContent("#message");
  for (const key of ["loss=valleys", "rate=-3", "x=1e9", "flows=rod.euler", "rank=7", "window=1_2"]) assert.ok(text.includes(key), `${key}: ${text}`);
  assert.equal(await page.inputValue("#loss"), "valley");
  await steps(page, 2);
});

onPage("a formula in an address is read, never run", `#loss=formula&f=${encodeURIComponent("alert(1)")}`, STILL, async (page) => {
  let asked = false;
  page.on("dialog", () => (asked = true));
  assert.match(await page.textContent("#message"), /“alert” at position 1 is unknown/);
  await steps(page, 2);
  assert.ok(!asked);
});

onPage("a formula is tried while it is typed", "#loss=formula", STILL, async (page) => {
  await page.fill("#formula", "x^2 + 2y^2");
  assert.match(await page.textContent("#formula-error"), /operator such as \* is missing before “y” at position 8/);
  assert.equal(await page.getAttribute("#formula", "aria-invalid"), "true");
  await page.fill("#formula", "x^2 + 2*y^2");
  assert.equal(await page.textContent("#formula-error"), "");
  await steps(page, 1);
  const { "Gradient descent": [x, y] } = await numbers(page);
  // One step of 0.1 from (-1.4, 1.1).
  assert.deepEqual([x, y], ["−1.12", "0.66"]);
});

onPage("divergence is said in a sentence, and draws nothing absurd", "#loss=ring&x=1.6&y=0.9&rate=2.5&flows=gradient.corrected.rod.parity", STILL, async (page) => {
  await page.click("#play");
  await page.waitForFunction(() => /diverged at step \d+/.test(document.getElementById("message").textContent));
  assert.doesNotMatch(await page.evaluate(() => document.body.innerText), /NaN|Infinity|undefined/);
});

onPage("where a loss is not defined, that is said", `#loss=formula&f=${encodeURIComponent("log(x) + y^2")}&x=-1&y=0`, STILL, async (page) => {
  assert.match(await page.textContent("#message"), /not twice differentiable at the start/);
  assert.match(await page.textContent("#message"), /blank part/);
});

onPage("a scene is a link", "", STILL, async (page) => {
  await page.click("text=A ball over pits");
  await page.waitForFunction(() => document.getElementById("loss").value === "pits");
  assert.ok(await page.isVisible("#radius"));
  await steps(page, 3);
  const found = await numbers(page);
  assert.ok(found["Ball-centre flow"] && found["The rolling ball"], Object.keys(found).join());
});

for (const [name, options] of [["desktop", {}], ["telephone", PHONE]]) {
  for (const colorScheme of ["light", "dark"]) {
    onPage(
      `accessibility on a ${name}, ${colorScheme}`, "#loss=pits&flows=gradient.corrected.central.rod.parity.ball.mechanics&momentum=0.2",
      { ...options, ...STILL, colorScheme },
      async (page) => {
        await steps(page, 2);
        await numbers(page);
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => axe.run());
        const found = violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((node) => node.html).join(" ")}`);
        if (found.length > 0) console.log(`# ${found.join("\n# ")}`);
        assert.deepEqual(violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id }) => id), []);
        const [wide, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(wide <= inner, `the page is ${wide} wide, the screen ${inner}`);
      },
    );
  }
}
