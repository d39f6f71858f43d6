/** The built-in losses: the same formulas and numbers as those of the Python package `potentials`. */

import { Formula } from "./formula.js";
import type { Order } from "./jet.js";
import pits from "./pits.json";

/** L, Lx, Ly, Lxx, Lxy, Lyy, Lxxx, Lxxy, Lxyy, Lyyy. */
export type Derivatives = Float64Array;

export const derivatives = (): Derivatives => new Float64Array(10);

/** A loss of two parameters, with its exact derivatives. */
export interface Loss {
  /** Write the derivatives at a point up to an order; what is above it stays as it was. */
  evaluate(x: number, y: number, order: Order, out: Derivatives): void;
}

/** A bowl with narrow pits, `potentials.GaussianPits()` with its default numbers. */
export class Pits implements Loss {
  private readonly width = 0.1;
  private readonly xs = Float64Array.from(pits.centres, (centre) => centre[0]!);
  private readonly ys = Float64Array.from(pits.centres, (centre) => centre[1]!);
  private readonly depths = Float64Array.from(pits.shares, (share) => 0.1 * share);

  evaluate(x: number, y: number, order: Order, out: Derivatives): void {
    out[0] = 0.5 * (x * x + y * y);
    out[1] = x;
    out[2] = y;
    out[3] = 1;
    out[4] = 0;
    out[5] = 1;
    out.fill(0, 6);
    const r = 1 / this.width, { xs, ys, depths } = this;
    for (let i = 0; i < depths.length; i++) {
      const u = (x - xs[i]!) * r, v = (y - ys[i]!) * r;
      const half = 0.5 * (u * u + v * v);
      // What is left out is below 1e-18 of the loss, and below 1e-14 of its third derivatives.
      if (half > 40) continue;
      // Derivatives of a Gaussian are Hermite polynomials times the Gaussian.
      const g = -depths[i]! * Math.exp(-half);
      out[0] += g;
      if (order < 1) continue;
      const g1 = -g * r;
      out[1] += g1 * u;
      out[2] += g1 * v;
      if (order < 2) continue;
      const g2 = g * r * r, u2 = u * u - 1, v2 = v * v - 1;
      out[3] += g2 * u2;
      out[4]! += g2 * u * v;
      out[5] += g2 * v2;
      if (order < 3) continue;
      const g3 = -g2 * r;
      out[6]! += g3 * u * (u * u - 3);
      out[7]! += g3 * u2 * v;
      out[8]! += g3 * u * v2;
      out[9]! += g3 * v * (v * v - 3);
    }
  }
}

/** The part of the plane that is shown. */
export interface View {
  x: readonly [number, number];
  y: readonly [number, number];
  /** True where both axes must have the same scale. */
  equal: boolean;
}

export type LossName = "valley" | "quartic" | "product" | "ring" | "pits" | "formula";

/** A loss that can be chosen, and what it starts with. */
export interface Choice {
  name: LossName;
  label: string;
  /** What the loss is, in a sentence or two. */
  about: string;
  /** Its formula in the language of the formula box, or null. */
  formula: string | null;
  start: readonly [number, number];
  rate: number;
  view: View;
}

export const CHOICES: readonly Choice[] = [
  {
    name: "valley",
    label: "Sharpening valley",
    about:
      "The floor of the valley runs upwards in the picture, and the valley gets narrower on the way. Descent along the floor " +
      "therefore raises the sharpness until it reaches the threshold.",
    formula: "0.5*(y + x)*x^2 - 0.01*(x + y)",
    start: [0, 6],
    rate: 0.3,
    view: { x: [-0.62, 0.62], y: [5.8, 7.7], equal: false },
  },
  {
    name: "quartic",
    label: "Quartic well",
    about:
      "A well whose walls get flatter further out. With steps too large for its bottom, the iterates settle on two points " +
      "and jump between them for ever. A shallow bowl along y lets you see the path.",
    formula: "2.1/2*x^2 - 1/4*x^4 + 0.02*y^2",
    start: [0.05, 1],
    rate: 1,
    view: { x: [-1.1, 1.1], y: [-0.7, 1.3], equal: false },
  },
  {
    name: "product",
    label: "Product of two numbers",
    about:
      "The smallest network: two weights whose product should be 1. All minima lie on a hyperbola. The flattest one is at (1, 1), and large " +
      "steps move towards it.",
    formula: "0.5*(x*y - 1)^2",
    start: [2.5, 0.5],
    rate: 0.4,
    view: { x: [-0.3, 3.1], y: [-0.6, 2.0], equal: true },
  },
  {
    name: "ring",
    label: "Ring of minima",
    about: "Every point of the circle is a minimum, with the same sharpness. Which one is reached depends on how one moves.",
    formula: "0.25*(x^2 + y^2 - 1)^2",
    start: [0.35, 0.25],
    rate: 0.9,
    view: { x: [-1.75, 1.75], y: [-1.35, 1.35], equal: true },
  },
  {
    name: "pits",
    label: "Bowl with pits",
    about: "A bowl with forty narrow pits. Gradient descent falls into the next pit; a ball too large for the pits rolls over them.",
    formula: null,
    start: [0.67, -1],
    rate: 0.05,
    view: { x: [-1.55, 1.55], y: [-1.2, 1.2], equal: true },
  },
  {
    name: "formula",
    label: "Your own formula",
    about: "Write a loss of x and y. Its derivatives are exact, and all flows work on it.",
    formula: "log(1 + 4*(y - x^2)^2) + 0.3*(x - 1)^2",
    start: [-1.4, 1.1],
    rate: 0.1,
    view: { x: [-2.2, 2.2], y: [-1.2, 2.6], equal: false },
  },
];

export const choiceOf = (name: LossName): Choice => CHOICES.find((choice) => choice.name === name)!;

/**
 * The loss of a name; `text` is the formula where that is the user's own.
 *
 * @throws FormulaError If the text is no formula.
 */
export function lossOf(name: LossName, text: string): Loss {
  if (name === "pits") return new Pits();
  return new Formula(name === "formula" ? text : choiceOf(name).formula!);
}
