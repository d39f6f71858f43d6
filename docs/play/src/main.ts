/** The page: one state, one simulation of it, and what shows and changes them. */

import { DEFAULTS, read, type State, written } from "./address.js";
import { type Change, Controls, element } from "./controls.js";
import { fitCanvas, Frame, spoken, type Window } from "./frame.js";
import { FormulaError } from "./formula.js";
import { paintLandscape } from "./landscape.js";
import { LOOKS, forgetColors } from "./looks.js";
import { choiceOf, derivatives } from "./losses.js";
import { type Curve, Plot } from "./plots.js";
import { SCENES } from "./scenes.js";
import { type FlowTrack, MOST_STEPS, Simulation, type Track } from "./simulation.js";
import { drawHeads, Trails } from "./trails.js";

/** Milliseconds of each frame that may go into computing steps. */
const BUDGET = 7;
/** The same while it is far behind, as after a change of a slider: it then takes every other frame. */
const CATCH_UP = 20;
/** Milliseconds between two drawings of the plots. */
const PLOT_PAUSE = 45;
const LIVE_PAUSE = 15_000;

/** As an address has it, so that a link shows the very same. */
const rounded = ([x0, x1, y0, y1]: Window): Window => {
  const short = (value: number) => Number(value.toPrecision(8));
  return [short(x0), short(x1), short(y0), short(y1)];
};

class Page {
  private state: State;
  private readonly controls: Controls;
  private simulation!: Simulation;
  private frame!: Frame;
  private trails!: Trails;
  private overlay!: CanvasRenderingContext2D;
  private readonly plots: { sharpness: Plot; error: Plot };
  /** The time that is to be shown, in steps; it runs ahead while steps are still computed. */
  private clock = 0;
  private playing: boolean;
  private problems: string[] = [];
  private blank = 0;
  private lastFrame = 0;
  private lastPlot = 0;
  private lastLive = 0;
  private needsPlot = true;
  /** True while a frame is asked for: where nothing moves, none is. */
  private awake = false;
  private addressTimer = 0;
  private readonly dark = window.matchMedia("(prefers-color-scheme: dark)");
  private readonly calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  constructor() {
    const { state, problems } = read(location.hash);
    this.state = state;
    this.problems = problems;
    // Who asked for little motion starts it himself.
    this.playing = !this.calm.matches;
    this.controls = new Controls(state, (what) => this.changed(what));
    this.plots = {
      sharpness: new Plot(element<HTMLCanvasElement>("sharpness"), false),
      error: new Plot(element<HTMLCanvasElement>("error"), true),
    };
    this.controls.show();
    this.controls.mark(location.hash || `#${SCENES[0]!.address}`);
    this.layout();
    this.listen();
    this.showPlaying();
    this.wake();
  }

  /** Draw everything in the next frame. */
  private refresh(): void {
    this.needsPlot = true;
    this.wake();
  }

  /** Ask for a frame. */
  private wake(): void {
    if (this.awake) return;
    this.awake = true;
    requestAnimationFrame((now) => {
      this.awake = false;
      this.tick(now);
    });
  }

  /** The time that is shown: no later than what is computed. */
  private get shown(): number {
    return Math.min(this.clock, this.simulation.time);
  }

  /** Measure the canvases anew, and draw everything. */
  private layout(): void {
    const { width, height } = fitCanvas(element<HTMLCanvasElement>("landscape"));
    const usual = choiceOf(this.state.loss).view;
    const w = this.state.window;
    this.frame = w === null
      ? Frame.of(usual, width, height)
      : Frame.of({ x: [w[0], w[1]], y: [w[2], w[3]], equal: usual.equal }, width, height);
    this.trails = new Trails(fitCanvas(element<HTMLCanvasElement>("trails")).context, this.frame);
    this.overlay = fitCanvas(element<HTMLCanvasElement>("overlay")).context;
    this.plots.sharpness.resize();
    this.plots.error.resize();
    this.restart(true);
    this.paint();
  }

  /** Paint the landscape and what lies on it. */
  private paint(): void {
    const context = element<HTMLCanvasElement>("landscape").getContext("2d")!;
    this.blank = paintLandscape(context, this.frame, this.simulation.loss, this.dark.matches);
    this.trails.clear();
    this.refresh();
    this.placeStart();
    this.showMessage();
  }

  /** Simulate the state from its start; what is shown stays at the same time if `keepTime`. */
  private restart(keepTime: boolean): void {
    const [x0, x1, y0, y1] = this.frame.window;
    const resolution = Math.min((x1 - x0) / this.frame.width, (y1 - y0) / this.frame.height) / 2;
    this.simulation = this.made(resolution);
    if (!keepTime) this.clock = 0;
    this.clock = Math.min(this.clock, MOST_STEPS);
    this.compute(CATCH_UP);
    this.trails.clear();
    this.refresh();
    this.controls.report(this.simulation);
    this.showMessage();
  }

  private made(resolution: number): Simulation {
    const settings = { ...this.state };
    try {
      return new Simulation(settings, resolution);
    } catch (error) {
      if (!(error instanceof FormulaError)) throw error;
      this.problems.push(`The formula in the address is not understood: ${error.message}`);
      this.state.formula = DEFAULTS.formula;
      this.controls.show();
      return new Simulation({ ...settings, formula: DEFAULTS.formula }, resolution);
    }
  }

  /** Compute steps until the clock is reached, for at most some milliseconds. */
  private compute(budget: number): void {
    const until = performance.now() + budget;
    while (this.simulation.time < this.clock && !this.simulation.ended) {
      this.simulation.advance();
      if (performance.now() > until) break;
    }
  }

  private tick(now: number): void {
    const elapsed = Math.min(100, now - this.lastFrame);
    this.lastFrame = now;
    const { simulation } = this;
    const behind = simulation.time < this.clock;
    if (this.playing && !simulation.ended) {
      // Where steps take longer than the clock has it, the clock waits.
      if (!behind || this.clock - simulation.time < 2) this.clock += (elapsed / 1000) * this.state.speed;
      this.clock = Math.min(this.clock, MOST_STEPS);
      this.refresh();
    }
    if (simulation.time < this.clock) {
      this.compute(this.clock - simulation.time > 20 ? CATCH_UP : BUDGET);
      this.refresh();
    }
    if (simulation.ended && this.clock > simulation.time) this.clock = simulation.time;
    if (this.playing && simulation.ended) this.setPlaying(false);
    this.trails.draw(simulation, this.shown);
    drawHeads(this.overlay, this.frame, simulation, this.shown);
    if (this.needsPlot && now - this.lastPlot >= PLOT_PAUSE) {
      this.drawPlots();
      this.lastPlot = now;
      this.needsPlot = false;
    }
    if (this.playing && now - this.lastLive > LIVE_PAUSE) this.announce(now);
    if (this.playing || this.needsPlot || simulation.time < this.clock) this.wake();
  }

  private drawPlots(): void {
    const { simulation } = this, step = Math.floor(this.shown);
    const curve = (track: Track, values: Curve["values"], look: Curve["look"]): Curve => ({ values, firstStep: track.firstStep, look });
    const sharpness = [curve(simulation.discrete, simulation.discrete.sharpness, null)];
    const errors: Curve[] = [];
    for (const [name, track] of simulation.flows) {
      sharpness.push(curve(track, track.sharpness, LOOKS[name]));
      if (track.flow.midpoint !== null) errors.push(curve(track, track.distance, LOOKS[name]));
    }
    const label = simulation.settings.momentum === 0 ? "2/η" : "2(1 + β)/η";
    this.plots.sharpness.draw(sharpness, step, { value: simulation.threshold, label: `${label} = ${spoken(simulation.threshold, 3)}` });
    this.plots.error.draw(errors, step, null);
    element("clock").textContent = step.toLocaleString("en");
    this.controls.report(simulation);
    this.showMessage();
    if (element<HTMLDetailsElement>("numbers").closest("details")!.open) this.showNumbers(step);
  }

  private showNumbers(step: number): void {
    const { simulation } = this, at = derivatives();
    const rows = simulation.tracks.filter((track) => track.has(step)).map((track) => {
      const [x, y] = track.placeAt(step);
      simulation.loss.evaluate(x, y, 0, at);
      const flow = "distance" in track ? (track as FlowTrack) : null;
      const i = step - track.firstStep;
      return [
        track.label, spoken(x, 5), spoken(y, 5), spoken(at[0]!, 4), spoken(track.sharpness.at(i), 5),
        flow === null ? "" : spoken(flow.distance.at(i), 3), flow === null ? "" : spoken(flow.error, 3),
      ];
    });
    element("numbers").replaceChildren(...rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((text, i) => {
        const cell = document.createElement(i === 0 ? "th" : "td");
        if (i === 0) (cell as HTMLTableCellElement).scope = "row";
        cell.textContent = text;
        row.append(cell);
      });
      return row;
    }));
  }

  /** Say in words where everything is. */
  private summary(): string {
    const { simulation } = this, step = Math.floor(this.shown);
    const parts = [`Step ${step}.`];
    const { discrete } = simulation;
    if (discrete.has(step)) {
      const sharpness = discrete.sharpness.at(step);
      const relation = sharpness > 1.005 * simulation.threshold ? "above" : sharpness < 0.995 * simulation.threshold ? "below" : "at";
      const [x, y] = discrete.placeAt(step);
      parts.push(
        `${discrete.label} is at x ${spoken(x, 3)}, y ${spoken(y, 3)}, where the sharpness is ${spoken(sharpness, 3)}, ` +
        `${relation} the threshold ${spoken(simulation.threshold, 3)}.`,
      );
    }
    const ranked = [...simulation.flows.values()].filter((track) => Number.isFinite(track.error)).sort((a, b) => a.error - b.error);
    if (ranked.length > 0) {
      parts.push(`Mean tracking errors: ${ranked.map((track) => `${track.label} ${spoken(track.error, 2)}`).join(", ")}.`);
    }
    return [...parts, ...this.faults(), ...this.notes()].join(" ");
  }

  private announce(now = performance.now()): void {
    this.lastLive = now;
    const text = this.summary();
    element("live").textContent = text;
    element("trails").setAttribute("aria-label", `Level sets of the loss, with the paths. ${text}`);
    element("sharpness").setAttribute("aria-label", `Sharpness over the steps, with its threshold. ${text}`);
    element("error").setAttribute("aria-label", `Distance of each flow to the middle of the iterates, over the steps. ${text}`);
  }

  /** What went wrong until the time that is shown. */
  private faults(): string[] {
    const { simulation } = this, found = [...this.problems];
    for (const track of [simulation.discrete, ...(simulation.rolling === null ? [] : [simulation.rolling])]) {
      if (track.stopped !== null && this.shown >= track.steps - 1) found.push(track.stopped);
    }
    return found;
  }

  /** What else is worth knowing. */
  private notes(): string[] {
    const { simulation } = this, found = [...simulation.notes];
    if (this.blank > 0.001) found.push("In the blank part of the picture the loss is not defined.");
    if (simulation.time >= MOST_STEPS && this.shown >= MOST_STEPS) found.push(`After ${MOST_STEPS.toLocaleString("en")} steps it ends.`);
    return found;
  }

  private showMessage(): void {
    for (const [id, sentences] of [["faults", this.faults()], ["notes", this.notes()]] as const) {
      const text = sentences.join(" "), shown = element(id);
      if (shown.textContent !== text) shown.textContent = text;
    }
  }

  private setPlaying(playing: boolean): void {
    if (playing && this.simulation.ended) this.restart(false);
    this.playing = playing;
    this.showPlaying();
    this.wake();
    if (!playing) {
      // The end of a step, where the numbers are.
      this.clock = Math.min(Math.ceil(this.clock), MOST_STEPS);
      this.refresh();
      this.announce();
    }
  }

  private showPlaying(): void {
    element("play").textContent = this.playing ? "Pause" : "Play";
  }

  private changed(what: Change): void {
    this.problems = [];
    if (what === "loss") {
      this.clock = 0;
      this.layout();
    } else if (what !== "speed") {
      this.restart(true);
      this.placeStart();
    }
    this.keepAddress();
  }

  /** Write the state to the address, once the reader has paused. */
  private keepAddress(): void {
    clearTimeout(this.addressTimer);
    this.addressTimer = window.setTimeout(() => {
      history.replaceState(null, "", `#${written(this.state)}`);
      this.controls.mark(location.hash);
    }, 200);
  }

  private moveStart(x: number, y: number): void {
    if (!Number.isFinite(x + y)) return;
    const most = 1e3;
    const place = (value: number) => Math.min(most, Math.max(-most, Number(value.toPrecision(6))));
    this.state.start = [place(x), place(y)];
    this.controls.show();
    this.changed("start");
  }

  private placeStart(): void {
    const [x, y] = this.state.start, start = element("start");
    const px = Math.min(this.frame.right, Math.max(this.frame.left, this.frame.x(x)));
    const py = Math.min(this.frame.bottom, Math.max(this.frame.top, this.frame.y(y)));
    start.style.transform = `translate(${px}px, ${py}px)`;
    start.setAttribute("aria-label", `Start at x ${spoken(x, 3)}, y ${spoken(y, 3)}`);
  }

  private zoom(factor: number): void {
    const next = this.frame.zoomed(factor);
    const size = next[1] - next[0];
    if (size < 1e-5 || size > 1e4) return;
    this.state.window = rounded(next);
    this.layout();
    this.keepAddress();
  }

  /** Show all that has been drawn, or the usual part if that is nothing. */
  private fit(): void {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const track of this.simulation.tracks) {
      for (let i = 0; i + 1 < track.path.length; i += 2) {
        const x = track.path.at(i), y = track.path.at(i + 1);
        [x0, x1, y0, y1] = [Math.min(x0, x), Math.max(x1, x), Math.min(y0, y), Math.max(y1, y)];
      }
    }
    const mx = Math.max(0.08 * (x1 - x0), 1e-3), my = Math.max(0.08 * (y1 - y0), 1e-3);
    this.state.window = rounded([x0 - mx, x1 + mx, y0 - my, y1 + my]);
    this.layout();
    this.keepAddress();
  }

  private listen(): void {
    element("play").addEventListener("click", () => this.setPlaying(!this.playing));
    element("step").addEventListener("click", () => {
      this.playing = false;
      this.showPlaying();
      this.clock = Math.min(Math.floor(this.shown) + 1, MOST_STEPS);
      this.compute(BUDGET);
      this.refresh();
      this.announce();
    });
    element("reset").addEventListener("click", () => {
      this.restart(false);
      this.announce();
    });
    element("zoom-in").addEventListener("click", () => this.zoom(1 / 1.5));
    element("zoom-out").addEventListener("click", () => this.zoom(1.5));
    element("zoom-fit").addEventListener("click", () => this.fit());
    element("copy").addEventListener("click", () => void this.copy());
    element("numbers").closest("details")!.addEventListener("toggle", () => this.refresh());
    this.listenToStart();
    document.addEventListener("keydown", (event) => {
      const target = event.target as HTMLElement;
      if (event.key !== " " || event.defaultPrevented || target.closest("button, input, select, textarea, summary, a, [tabindex]") !== null) return;
      event.preventDefault();
      this.setPlaying(!this.playing);
    });
    window.addEventListener("hashchange", () => this.readAddress());
    element("scenes").addEventListener("click", (event) => {
      // A link to where one is already changes no address: the scene begins again.
      if ((event.target as HTMLElement).closest("a")?.hash === location.hash) this.readAddress();
    });
    this.dark.addEventListener("change", () => {
      forgetColors();
      this.controls.paint();
      this.paint();
    });
    let width = element("stage").clientWidth;
    new ResizeObserver(() => {
      if (element("stage").clientWidth === width) return;
      width = element("stage").clientWidth;
      this.layout();
    }).observe(element("stage"));
  }

  private listenToStart(): void {
    const stage = element("stage"), start = element("start");
    const at = (event: PointerEvent | MouseEvent): [number, number] => {
      const box = stage.getBoundingClientRect();
      return this.frame.at(event.clientX - box.left, event.clientY - box.top);
    };
    let grip: [number, number] | null = null;
    start.addEventListener("pointerdown", (event) => {
      // The start keeps its place under the finger.
      const [x, y] = at(event), [sx, sy] = this.state.start;
      grip = [sx - x, sy - y];
      start.setPointerCapture(event.pointerId);
    });
    start.addEventListener("pointermove", (event) => {
      if (grip === null) return;
      const [x, y] = at(event);
      this.moveStart(x + grip[0], y + grip[1]);
    });
    for (const end of ["pointerup", "pointercancel"] as const) start.addEventListener(end, () => (grip = null));
    stage.addEventListener("dblclick", (event) => {
      if ((event.target as HTMLElement).closest("button") !== null) return;
      this.moveStart(...at(event));
    });
    start.addEventListener("keydown", (event) => {
      const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (direction === undefined) return;
      event.preventDefault();
      const [x0, x1, y0, y1] = this.frame.window, share = event.shiftKey ? 0.05 : 0.005;
      const [x, y] = this.state.start;
      this.moveStart(x + direction[0]! * share * (x1 - x0), y + direction[1]! * share * (y1 - y0));
    });
    start.addEventListener("keyup", (event) => {
      if (event.key.startsWith("Arrow")) this.announce();
    });
  }

  private readAddress(): void {
    const { state, problems } = read(location.hash);
    this.state = state;
    this.problems = problems;
    this.clock = 0;
    this.controls.use(state);
    this.controls.mark(location.hash);
    this.layout();
    if (!this.playing && !this.calm.matches) this.setPlaying(true);
  }

  private async copy(): Promise<void> {
    const address = `${location.href.split("#")[0]}#${written(this.state)}`;
    history.replaceState(null, "", address);
    const said = element("copied");
    try {
      await navigator.clipboard.writeText(address);
      said.textContent = "Copied.";
    } catch {
      said.textContent = "The browser did not allow it: copy the address of this page.";
    }
  }
}

// The text is painted first; what moves comes right after it.
requestAnimationFrame(() => setTimeout(() => {
  new Page();
  document.querySelector("main")!.removeAttribute("aria-busy");
  performance.mark("ready");
}));

