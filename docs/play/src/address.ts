/** The state of the page in the fragment of its address, so that a view can be shared. */

import { CHOICES, choiceOf, type LossName } from "./losses.js";
import { type FlowName, FLOWS, type Settings } from "./simulation.js";

/** What the page shows, and how. */
export interface State extends Settings {
  /** Steps per second. */
  speed: number;
  /** The part of the plane that is shown, x from, x to, y from, y to; null for the usual one. */
  window: readonly [number, number, number, number] | null;
}

/** Within which numbers the settings stay. */
export const RANGES = {
  rate: [0.005, 4],
  momentum: [0, 0.95],
  radius: [0.01, 2],
  friction: [0, 5],
  speed: [1, 600],
} as const;

export const DEFAULTS: State = {
  loss: "valley",
  formula: choiceOf("formula").formula!,
  start: choiceOf("valley").start,
  rate: choiceOf("valley").rate,
  momentum: 0,
  radius: 0.3,
  friction: 0.5,
  rank: 2,
  flows: ["gradient", "central", "rod", "parity"],
  speed: 100,
  window: null,
};

/** A number with as many digits as an address needs. */
const short = (value: number): string => String(Number(value.toPrecision(8)));

/** The fragment for a state, without the "#". */
export function written(state: State): string {
  const parts = new URLSearchParams();
  parts.set("loss", state.loss);
  if (state.loss === "formula") parts.set("f", state.formula);
  parts.set("x", short(state.start[0]));
  parts.set("y", short(state.start[1]));
  parts.set("rate", short(state.rate));
  if (state.momentum !== 0) parts.set("momentum", short(state.momentum));
  parts.set("flows", state.flows.join("."));
  if (state.flows.includes("ball")) parts.set("radius", short(state.radius));
  if (state.flows.includes("mechanics")) parts.set("friction", short(state.friction));
  if (state.rank !== DEFAULTS.rank) parts.set("rank", String(state.rank));
  if (state.speed !== DEFAULTS.speed) parts.set("speed", short(state.speed));
  if (state.window !== null) parts.set("window", state.window.map(short).join("_"));
  return parts.toString();
}

/**
 * The state that a fragment says, and what in it is not understood, in sentences.
 *
 * What is missing or not understood has its default; the start and the learning rate that of the loss.
 */
export function read(fragment: string): { state: State; problems: string[] } {
  const parts = new URLSearchParams(fragment.replace(/^#/, ""));
  const problems: string[] = [];
  const refuse = (key: string, wanted: string) => {
    problems.push(`The address has ${key}=${parts.get(key)!.slice(0, 40)}, which should be ${wanted}; it is ignored.`);
  };
  const number = (key: string, fallback: number, least: number, most: number): number => {
    const text = parts.get(key);
    if (text === null) return fallback;
    const value = text.trim() === "" ? NaN : Number(text);
    if (value >= least && value <= most) return value;
    refuse(key, `a number from ${least} to ${most}`);
    return fallback;
  };
  let loss: LossName = DEFAULTS.loss;
  if (parts.has("loss")) {
    const found = CHOICES.find((choice) => choice.name === parts.get("loss"));
    if (found === undefined) refuse("loss", `one of ${CHOICES.map((choice) => choice.name).join(", ")}`);
    else loss = found.name;
  }
  const choice = choiceOf(loss);
  let flows: readonly FlowName[] = DEFAULTS.flows;
  if (parts.has("flows")) {
    const names = parts.get("flows")!.split(".").filter((name) => name !== "");
    if (names.some((name) => !FLOWS.some((flow) => flow === name))) refuse("flows", `some of ${FLOWS.join(".")}`);
    else flows = FLOWS.filter((flow) => names.includes(flow));
  }
  let window: State["window"] = null;
  if (parts.has("window")) {
    const edges = parts.get("window")!.split("_").map(Number);
    const [x0, x1, y0, y1] = edges as [number, number, number, number];
    const valid = edges.length === 4 && edges.every((edge) => Math.abs(edge) < 1e4) && x1 - x0 > 1e-6 && y1 - y0 > 1e-6;
    if (valid) window = [x0, x1, y0, y1];
    else refuse("window", "four numbers, x0_x1_y0_y1");
  }
  const state: State = {
    loss,
    formula: parts.get("f") ?? DEFAULTS.formula,
    start: [number("x", choice.start[0], -1e3, 1e3), number("y", choice.start[1], -1e3, 1e3)],
    rate: number("rate", choice.rate, ...RANGES.rate),
    momentum: number("momentum", DEFAULTS.momentum, ...RANGES.momentum),
    radius: number("radius", DEFAULTS.radius, ...RANGES.radius),
    friction: number("friction", DEFAULTS.friction, ...RANGES.friction),
    rank: parts.get("rank") === "1" ? 1 : 2,
    flows,
    speed: number("speed", DEFAULTS.speed, ...RANGES.speed),
    window,
  };
  if (parts.has("rank") && !["1", "2"].includes(parts.get("rank")!)) refuse("rank", "1 or 2");
  return { state, problems };
}
