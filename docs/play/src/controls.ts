/** The form beside the landscape: it shows the state, and says what the reader changes. */

import { RANGES, type State } from "./address.js";
import { spoken } from "./frame.js";
import { FormulaError } from "./formula.js";
import { LOOKS, paintSwatch, swatch } from "./looks.js";
import { CHOICES, choiceOf, type LossName, lossOf } from "./losses.js";
import { SCENES } from "./scenes.js";
import { type FlowName, FLOWS, type Simulation, TITLES } from "./simulation.js";

export const element = <T extends HTMLElement = HTMLElement>(id: string): T => document.getElementById(id) as T;

/** What each flow is, in a few words, and in a sentence or two. */
const ABOUT: Readonly<Record<FlowName, readonly [string, string]>> = {
  gradient: ["the limit of small steps", "dw/dt = −η g, the limit of small steps. It follows the valley floor whatever its sharpness."],
  corrected: ["the next order in η", "dw/dt = −η g − (η²/2) H g: what finite steps change to first order. Better far below the threshold, wrong at it."],
  central: ["averages the jumps out", "Adds the average force of the jumps, just large enough that the sharpness does not rise above its threshold. For gradient descent only."],
  rod: ["two iterates as a rod's ends", "Takes two iterates in succession as the ends of a rod and follows its centre and its length, so that the jumps can grow and shrink."],
  parity: ["every iterate, c ± d", "Writes the iterates as c + (−1)ᵗ d and solves for both parts, here to second order in how slowly they move. It knows when jumps begin and how large they are."],
  ball: ["a ball too large for narrow pits", "The centre of a ball that rolls on the landscape, seen from above. What is narrower than the ball it cannot feel. Large dots are the discrete rolling ball."],
  mechanics: ["a particle with inertia", "A particle that slides on the graph of the loss under gravity and friction. It models no optimizer, so it has no tracking error. A step is √η of its time."],
};

/** A slider of a quantity, on a logarithmic scale if its range begins above 0. */
class Slider {
  private readonly input: HTMLInputElement;
  private readonly output: HTMLElement;
  private readonly logarithmic: boolean;

  constructor(id: string, private readonly range: readonly [number, number], changed: (value: number) => void, private readonly unit = "") {
    this.input = element<HTMLInputElement>(id);
    this.output = element(`${id}-value`);
    this.logarithmic = range[0] > 0;
    this.input.addEventListener("input", () => {
      const value = this.value;
      this.label(value);
      changed(value);
    });
  }

  show(value: number): void {
    const [low, high] = this.range;
    this.input.value = String(this.logarithmic ? (Math.log(value / low) / Math.log(high / low)) * Number(this.input.max) : value);
    this.label(value);
  }

  private get value(): number {
    const [low, high] = this.range, raw = Number(this.input.value);
    if (!this.logarithmic) return raw;
    // Three digits are as fine as the slider.
    return Number((low * (high / low) ** (raw / Number(this.input.max))).toPrecision(3));
  }

  private label(value: number): void {
    const text = `${spoken(value, 3)}${this.unit}`;
    this.output.textContent = text;
    this.input.setAttribute("aria-valuetext", text);
  }
}

/** How much of what runs stays when the state has changed. */
export type Change = "simulation" | "start" | "speed" | "loss";

export class Controls {
  private readonly sliders: Record<"rate" | "momentum" | "radius" | "friction" | "speed", Slider>;
  private readonly boxes = new Map<FlowName, { box: HTMLInputElement; error: HTMLElement; note: HTMLElement; sample: HTMLCanvasElement }>();
  private readonly discreteSample = swatch(null);
  private readonly ranks = [...document.querySelectorAll<HTMLInputElement>("input[name=rank]")];

  /**
   * @param state What is shown; it is changed in place.
   * @param changed Called after that.
   */
  constructor(private state: State, private readonly changed: (what: Change) => void) {
    const loss = element<HTMLSelectElement>("loss");
    for (const { name, label } of CHOICES) loss.append(new Option(label, name));
    loss.addEventListener("change", () => this.choose(loss.value as LossName));
    element<HTMLTextAreaElement>("formula").addEventListener("input", (event) => this.tryFormula((event.target as HTMLTextAreaElement).value));
    element<HTMLFormElement>("controls").addEventListener("submit", (event) => event.preventDefault());
    element("discrete-swatch").append(this.discreteSample);
    for (const axis of [0, 1] as const) {
      const input = element<HTMLInputElement>(axis === 0 ? "start-x" : "start-y");
      input.addEventListener("change", () => {
        const value = Number(input.value);
        if (input.value.trim() === "" || !(Math.abs(value) <= 1e3)) return this.show();
        const { start } = this.state;
        this.state.start = axis === 0 ? [value, start[1]] : [start[0], value];
        this.changed("start");
      });
    }
    for (const name of FLOWS) this.addFlow(name);
    for (const input of this.ranks) {
      input.addEventListener("change", () => {
        this.state.rank = input.value === "1" ? 1 : 2;
        this.changed("simulation");
      });
    }
    const set = (key: "rate" | "momentum" | "radius" | "friction" | "speed") => (value: number) => {
      this.state[key] = value;
      this.changed(key === "speed" ? "speed" : "simulation");
    };
    this.sliders = {
      rate: new Slider("rate", RANGES.rate, set("rate")),
      momentum: new Slider("momentum", RANGES.momentum, set("momentum")),
      radius: new Slider("radius", RANGES.radius, set("radius")),
      friction: new Slider("friction", RANGES.friction, set("friction")),
      speed: new Slider("speed", RANGES.speed, set("speed"), " steps/s"),
    };
    for (const { title, about, address } of SCENES) {
      const item = document.createElement("li"), link = document.createElement("a");
      const name = document.createElement("strong"), text = document.createElement("span");
      name.textContent = title;
      text.textContent = about;
      link.href = `#${address}`;
      link.append(name, text);
      item.append(link);
      element("scenes").append(item);
    }
  }

  /** Show another state. */
  use(state: State): void {
    this.state = state;
    this.show();
  }

  /** Show the state. */
  show(): void {
    const { state } = this;
    const choice = choiceOf(state.loss);
    element<HTMLSelectElement>("loss").value = state.loss;
    element("loss-about").textContent = choice.about;
    element("formula-box").hidden = state.loss !== "formula";
    const text = element<HTMLTextAreaElement>("formula");
    if (document.activeElement !== text) text.value = state.formula;
    element("formula-error").textContent = "";
    text.removeAttribute("aria-invalid");
    const formula = state.loss === "formula" ? state.formula : choice.formula;
    element("formula-shown").textContent = formula === null ? "½(x² + y²) − 40 Gaussian pits" : `L = ${pretty(formula)}`;
    element<HTMLInputElement>("start-x").value = String(Number(state.start[0].toPrecision(5)));
    element<HTMLInputElement>("start-y").value = String(Number(state.start[1].toPrecision(5)));
    for (const key of ["rate", "momentum", "radius", "friction", "speed"] as const) this.sliders[key].show(state[key]);
    for (const [name, { box }] of this.boxes) box.checked = state.flows.includes(name);
    for (const input of this.ranks) input.checked = Number(input.value) === state.rank;
    for (const [name, id] of [["ball", "radius-row"], ["mechanics", "friction-row"]] as const) {
      element(id).hidden = !state.flows.includes(name);
    }
    element("rank-row").hidden = !state.flows.includes("central") && !state.flows.includes("rod");
    this.paint();
  }

  /** Show the numbers of a simulation beside the flows. */
  report(simulation: Simulation): void {
    element("threshold-value").textContent = `${simulation.settings.momentum === 0 ? "2/η" : "2(1 + β)/η"} = ${spoken(simulation.threshold)}`;
    for (const [name, { error, note }] of this.boxes) {
      const track = simulation.flows.get(name);
      const value = track?.error ?? NaN;
      error.textContent = Number.isFinite(value) ? spoken(value, 2) : "";
      note.textContent = simulation.missing.get(name) ?? track?.stopped ?? "";
    }
  }

  /** Mark the scene that an address is that of, if any. */
  mark(fragment: string): void {
    for (const link of document.querySelectorAll<HTMLAnchorElement>("#scenes a")) {
      if (link.hash === fragment) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  /** Draw the samples of the lines, in the colours of now. */
  paint(): void {
    paintSwatch(this.discreteSample, null);
    for (const [name, { sample }] of this.boxes) paintSwatch(sample, LOOKS[name]);
  }

  private choose(name: LossName): void {
    const { state } = this, { start, rate } = choiceOf(name);
    Object.assign(state, { loss: name, start, rate, window: null });
    this.show();
    this.changed("loss");
  }

  private tryFormula(text: string): void {
    const input = element("formula"), error = element("formula-error");
    try {
      lossOf("formula", text);
    } catch (problem) {
      if (!(problem instanceof FormulaError)) throw problem;
      error.textContent = problem.message;
      input.setAttribute("aria-invalid", "true");
      return;
    }
    error.textContent = "";
    input.removeAttribute("aria-invalid");
    this.state.formula = text;
    element("formula-shown").textContent = `L = ${pretty(text)}`;
    this.changed("loss");
  }

  private addFlow(name: FlowName): void {
    const item = document.createElement("li");
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.id = `flow-${name}`;
    const sample = swatch(LOOKS[name]);
    const title = document.createElement("span");
    title.className = "flow-name";
    title.textContent = TITLES[name];
    const brief = document.createElement("small");
    brief.textContent = ABOUT[name][0];
    brief.id = `flow-${name}-brief`;
    title.append(brief);
    const error = document.createElement("span");
    error.className = "flow-error";
    error.setAttribute("aria-hidden", "true");
    label.append(box, sample, title, error);
    const note = document.createElement("p");
    note.className = "flow-note";
    item.append(label, note);
    element("flows").append(item);
    box.addEventListener("change", () => {
      this.state.flows = FLOWS.filter((flow) => this.boxes.get(flow)!.box.checked);
      this.show();
      this.changed("simulation");
    });
    this.boxes.set(name, { box, error, note, sample });
    if (name === "ball") item.append(row("radius", "Radius of the ball", "0", "200", "1"));
    if (name === "mechanics") item.append(row("friction", "Friction", "0", "5", "0.05"));
    const term = document.createElement("dt"), definition = document.createElement("dd");
    term.textContent = TITLES[name];
    definition.textContent = ABOUT[name][1];
    element("about-flows").append(term, definition);
  }
}

function row(id: string, text: string, min: string, max: string, step: string): HTMLElement {
  const found = document.createElement("div");
  found.className = "slider";
  found.id = `${id}-row`;
  const label = document.createElement("label"), output = document.createElement("output"), input = document.createElement("input");
  label.htmlFor = id;
  label.textContent = text;
  output.id = `${id}-value`;
  output.htmlFor.add(id);
  Object.assign(input, { type: "range", id, min, max, step });
  found.append(label, output, input);
  return found;
}

/** A formula as it is printed: powers raised, a dot for a product. */
export function pretty(formula: string): string {
  return formula
    .replace(/\s*\*\s*/g, "·")
    .replace(/\^([0-9])(?![0-9.])/g, (_, digit: string) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]!)
    .replaceAll("-", "−");
}
