/** A discrete method and the chosen flows, side by side, one step of the method after the other. */

import { Descent } from "./descent.js";
import { Ball, ballFlow, type BallFlow } from "./flows/ball.js";
import { centralFlow } from "./flows/central.js";
import { type Flow, FlowError, type Midpoint } from "./flows/flow.js";
import { correctedFlow, gradientFlow } from "./flows/gradient.js";
import { mechanicsFlow } from "./flows/mechanics.js";
import { FIT_STEP, parityFlow } from "./flows/parity.js";
import { rodFlow } from "./flows/rod.js";
import { Integrator, isFinite, type Tolerances } from "./integrator.js";
import { largestEigenvalue } from "./linear.js";
import { derivatives, type Loss, type LossName, lossOf } from "./losses.js";
import { Series } from "./series.js";

export const FLOWS = ["gradient", "corrected", "central", "rod", "parity", "ball", "mechanics"] as const;

export type FlowName = (typeof FLOWS)[number];

/** Everything that decides how a simulation goes. */
export interface Settings {
  loss: LossName;
  /** The user's formula, for the loss "formula". */
  formula: string;
  start: readonly [number, number];
  rate: number;
  momentum: number;
  radius: number;
  friction: number;
  rank: 1 | 2;
  flows: readonly FlowName[];
}

type Pair = readonly [number, number];

/** After that many steps a simulation ends. */
export const MOST_STEPS = 20_000;

/** Parameters larger than this have diverged. */
const FAR = 1e4;

/** An oscillation may decay to very little before it grows again: absolute errors must be smaller still. */
const TOLERANCES: Tolerances = { relative: 1e-6, absolute: 1e-14, longest: 0.5, attempts: 400 };
/** A ball's centre moves on surfaces with kinks, which would ask for very small steps. */
const BALL_TOLERANCES: Tolerances = { relative: 1e-5, absolute: 1e-8, longest: 0.5, attempts: 150 };

/** Coarse, in units of the radius: a picture does not show it, and balls roll along creases in fewer steps. */
const EQUAL_DISTANCES = 1e-4;

/** What has been recorded of something that moves. */
export class Track {
  /** The line to draw: x, y, x, y, ... */
  readonly path = new Series();
  /** How many numbers of `path` there were after each step since `firstStep`. */
  readonly pathEnds = new Series();
  /** Where it is after each step since `firstStep`: x, y, x, y, ... */
  readonly places = new Series();
  readonly sharpness = new Series();
  /** Why it has stopped, in a sentence, or null. */
  stopped: string | null = null;

  constructor(readonly label: string, readonly firstStep: number) {}

  /** How many steps are recorded. */
  get steps(): number {
    return this.sharpness.length;
  }

  /** Where it is after a step, which must be recorded. */
  placeAt(step: number): Pair {
    const i = 2 * (step - this.firstStep);
    return [this.places.at(i), this.places.at(i + 1)];
  }

  has(step: number): boolean {
    return step >= this.firstStep && step - this.firstStep < this.steps;
  }
}

/** A flow's track, with its distance to what it models. */
export class FlowTrack extends Track {
  /** Distance to the midpoint of the iterates after each step; not a number where there is none. */
  readonly distance = new Series();
  private distances = 0;
  private moves = 0;
  private origin: Pair | null = null;

  constructor(label: string, readonly flow: Flow, readonly integrator: Integrator) {
    super(label, flow.firstStep);
  }

  /** Mean distance to the midpoints over their mean distance from the first one; not a number without any. */
  get error(): number {
    return this.distances / this.moves;
  }

  compare(place: Pair, midpoint: Pair | null): void {
    if (midpoint === null) {
      this.distance.push(NaN);
      return;
    }
    const distance = Math.hypot(place[0] - midpoint[0], place[1] - midpoint[1]);
    this.distance.push(distance);
    this.distances += distance;
    this.origin ??= midpoint;
    this.moves += Math.hypot(midpoint[0] - this.origin[0], midpoint[1] - this.origin[1]);
  }
}

export class Simulation {
  /** Steps that are recorded of everything. */
  time = 0;
  readonly loss: Loss;
  readonly descent: Descent;
  readonly discrete: Track;
  /** The discrete rolling ball, where its flow is chosen. */
  rolling: Track | null = null;
  ball: { ball: Ball; flow: BallFlow } | null = null;
  readonly flows = new Map<FlowName, FlowTrack>();
  /** Why a flow that was chosen is not there. */
  readonly missing = new Map<FlowName, string>();
  /** What else one should know, in sentences. */
  readonly notes: string[] = [];
  private readonly at = derivatives();
  private readonly phase: Float64Array;
  private readonly scratch: Float64Array;
  private rollingAt: Pair = [0, 0];

  /**
   * @param settings What to run.
   * @param resolution How far something moves before its line gets another point.
   * @throws FormulaError If the formula is none.
   */
  constructor(readonly settings: Settings, private readonly resolution: number) {
    this.loss = lossOf(settings.loss, settings.formula);
    this.descent = new Descent(this.loss, settings.rate, settings.momentum);
    const [x, y] = settings.start;
    this.phase = this.descent.start(x, y);
    this.scratch = new Float64Array(this.phase.length);
    this.discrete = new Track(settings.momentum === 0 ? "Gradient descent" : "The heavy ball", 0);
    this.recordDiscrete(this.discrete, [x, y]);
    // Where the loss is not defined, nothing can start.
    if (this.discrete.stopped === null) for (const name of settings.flows) this.begin(name);
    // A midpoint needs the iterate after it: the methods are a step ahead of the flows.
    this.advanceDiscrete();
    for (const track of this.flows.values()) if (track.firstStep === 0) this.recordFlow(track);
  }

  get threshold(): number {
    return this.descent.threshold;
  }

  /** True if nothing moves any more. */
  get ended(): boolean {
    return this.time >= MOST_STEPS || [this.discrete, ...this.flows.values()].every((track) => track.stopped !== null);
  }

  /** All that is drawn as a line or as points. */
  get tracks(): Track[] {
    return [this.discrete, ...(this.rolling === null ? [] : [this.rolling]), ...this.flows.values()];
  }

  /** Go on by one step of the discrete method. */
  advance(): void {
    this.time += 1;
    this.advanceDiscrete();
    for (const track of this.flows.values()) {
      if (track.stopped !== null || this.time < track.firstStep) continue;
      if (this.time > track.firstStep && !this.integrate(track)) continue;
      this.recordFlow(track);
    }
  }

  private begin(name: FlowName): void {
    const [x, y] = this.settings.start;
    try {
      const flow = this.made(name, x, y);
      if (!isFinite(flow.state)) throw new FlowError(`${TITLES[name]} finds no start here: the curvature changes too fast.`);
      const tolerances = name === "ball" ? BALL_TOLERANCES : TOLERANCES;
      const { timePerStep } = flow;
      const integrator = new Integrator(
        flow.state, flow.field, { ...tolerances, longest: tolerances.longest * timePerStep }, flow.settle,
      );
      this.flows.set(name, new FlowTrack(TITLES[name], flow, integrator));
    } catch (error) {
      if (!(error instanceof FlowError)) throw error;
      this.missing.set(name, error.message);
    }
  }

  private made(name: FlowName, x: number, y: number): Flow {
    const { descent } = this;
    const { rate, momentum, rank, radius, friction } = this.settings;
    switch (name) {
      case "gradient": return gradientFlow(descent, x, y);
      case "corrected": return correctedFlow(descent, x, y);
      case "central":
        if (momentum !== 0) {
          throw new FlowError("Central flow models gradient descent without momentum. Set the momentum to 0 to see it.");
        }
        if (this.sharpnessAt([x, y]) > 1.02 * this.threshold) {
          this.notes.push("The sharpness at the start is above the threshold: central flow does not model what the iterates do there.");
        }
        return centralFlow(descent, rank, x, y);
      case "rod": return rodFlow(descent, rank, x, y);
      case "parity":
        if (momentum !== 0) {
          this.notes.push(`With momentum the parity flow starts at step ${FIT_STEP}, fitted to the iterates around it.`);
        }
        return parityFlow(descent, x, y);
      case "mechanics": return mechanicsFlow(this.loss, rate, friction, x, y);
      case "ball": {
        const ball = new Ball(this.loss, rate, radius, EQUAL_DISTANCES);
        const { contact, dropped } = ball.start(x, y);
        if (dropped) this.notes.push("The ball does not fit into the landscape at the start: it was dropped from above.");
        const flow = ballFlow(ball, contact);
        this.ball = { ball, flow };
        this.rollingAt = contact;
        this.rolling = new Track("The rolling ball", 0);
        this.recordDiscrete(this.rolling, contact);
        return flow;
      }
    }
  }

  private sharpnessAt([x, y]: Pair): number {
    this.loss.evaluate(x, y, 2, this.at);
    return largestEigenvalue(this.at[3]!, this.at[4]!, this.at[5]!);
  }

  /** Record an iterate, unless it has diverged. */
  private recordDiscrete(track: Track, place: Pair): void {
    const [x, y] = place;
    const sharpness = this.sharpnessAt(place);
    if (!(Math.hypot(x, y) < FAR && Number.isFinite(sharpness))) {
      const step = track.steps;
      track.stopped =
        step === 0 ? "The loss is not twice differentiable at the start. Move the start."
        : Number.isFinite(x + y) ? `${track.label} diverged at step ${step}: it runs off to infinity.`
        : `${track.label} stopped at step ${step}: the loss is not defined or not differentiable where the step leads.`;
      return;
    }
    track.places.push(x);
    track.places.push(y);
    track.path.push(x);
    track.path.push(y);
    track.pathEnds.push(track.path.length);
    track.sharpness.push(sharpness);
  }

  private advanceDiscrete(): void {
    if (this.discrete.stopped === null) {
      this.descent.step(this.phase, this.scratch);
      this.recordDiscrete(this.discrete, [this.phase[0]!, this.phase[1]!]);
    }
    if (this.rolling !== null && this.rolling.stopped === null) {
      const next = this.ball!.ball.roll(this.rollingAt);
      if (next === null) this.rolling.stopped = `The rolling ball stopped at step ${this.rolling.steps}: no contact was found.`;
      else {
        this.rollingAt = next;
        this.recordDiscrete(this.rolling, next);
      }
    }
  }

  private integrate(track: FlowTrack): boolean {
    const { flow, integrator } = track;
    const going = integrator.advance(flow.timePerStep, (state) => this.extend(track, flow.place(state)));
    const [x, y] = flow.place(flow.state);
    if (going && Math.hypot(x, y) < FAR) return true;
    track.stopped = going || Math.hypot(x, y) > FAR / 10
      ? `${track.label} diverged at step ${this.time}: it runs off to infinity.`
      : `${track.label} ends at step ${this.time}: its equation cannot be followed any further.`;
    return false;
  }

  /** Add a point to a line, if it is far enough from the last one. */
  private extend(track: Track, [x, y]: Pair): void {
    const { path } = track, n = path.length;
    if (n >= 2 && Math.hypot(x - path.at(n - 2), y - path.at(n - 1)) < this.resolution) return;
    path.push(x);
    path.push(y);
  }

  private recordFlow(track: FlowTrack): void {
    const { flow } = track;
    if (track.steps === 0) this.extend(track, flow.place(flow.state));
    const place = flow.predicted(flow.state);
    track.places.push(place[0]);
    track.places.push(place[1]);
    track.pathEnds.push(track.path.length);
    track.sharpness.push(this.sharpnessAt(place));
    const modelled = flow === this.ball?.flow ? this.rolling! : this.discrete;
    track.compare(place, flow.midpoint === null ? null : midpoint(modelled, this.time, flow.midpoint));
  }
}

/** The average of the iterates around a step; null where one of them is missing. */
function midpoint(track: Track, step: number, kind: Midpoint): Pair | null {
  if (!track.has(step + 1)) return null;
  const [x, y] = track.placeAt(step), [nx, ny] = track.placeAt(step + 1);
  if (kind === "two_point") return [0.5 * (x + nx), 0.5 * (y + ny)];
  if (step === 0) return [x, y];
  const [px, py] = track.placeAt(step - 1);
  return [0.25 * (px + 2 * x + nx), 0.25 * (py + 2 * y + ny)];
}

export const TITLES: Readonly<Record<FlowName, string>> = {
  gradient: "Gradient flow",
  corrected: "Corrected gradient flow",
  central: "Central flow",
  rod: "Rod flow",
  parity: "Parity flow",
  ball: "Ball-centre flow",
  mechanics: "Dissipative mechanics",
};
