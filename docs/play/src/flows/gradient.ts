/** Gradient flow, and its first backward-error correction. */

import type { Descent } from "../descent.js";
import { derivatives } from "../losses.js";
import { firstTwo, type Flow } from "./flow.js";

/** dw/dt = -r g, r = η/(1 - β) (arXiv 2103.00065). */
export function gradientFlow(descent: Descent, x: number, y: number): Flow {
  const at = derivatives();
  const rate = descent.limitRate;
  return {
    state: Float64Array.of(x, y),
    field: (w, out) => {
      descent.loss.evaluate(w[0]!, w[1]!, 1, at);
      out[0] = -rate * at[1]!;
      out[1] = -rate * at[2]!;
    },
    settle: null,
    firstStep: 0,
    timePerStep: 1,
    midpoint: "three_point",
    place: firstTwo,
    predicted: firstTwo,
  };
}

/** dz/dt = F - DF F / 2; for gradient descent dw/dt = -ηg - (η²/2) H g (arXiv 2009.11162). */
export function correctedFlow(descent: Descent, x: number, y: number): Flow {
  const change = new Float64Array(descent.dimension);
  return {
    state: descent.start(x, y),
    field: (z, out) => {
      descent.increment(z, out);
      descent.derivative(z, out, change);
      for (let i = 0; i < out.length; i++) out[i]! -= 0.5 * change[i]!;
    },
    settle: null,
    firstStep: 0,
    timePerStep: 1,
    midpoint: "three_point",
    place: firstTwo,
    predicted: firstTwo,
  };
}
