/** Dissipative mechanics: a particle that slides on the graph of the loss (arXiv 2605.15459). */

import { derivatives, type Loss } from "../losses.js";
import { firstTwo, type Flow } from "./flow.js";

/** The weight of the loss in the particle's energy. */
export const GRAVITY = 1;

/**
 * dw/dt = v, dv/dt = -g (vᵀHv + gravity)/(1 + |g|²) - friction v, from rest.
 *
 * Its time is its own. A step of the optimizer is √(η/gravity) of it: that is the time step for
 * which the heavy ball is a discretization of a particle with this gravity.
 */
export function mechanicsFlow(loss: Loss, rate: number, friction: number, x: number, y: number): Flow {
  const at = derivatives();
  return {
    state: Float64Array.of(x, y, 0, 0),
    field: (z, out) => {
      const u = z[2]!, v = z[3]!;
      loss.evaluate(z[0]!, z[1]!, 2, at);
      const gx = at[1]!, gy = at[2]!;
      const bend = at[3]! * u * u + 2 * at[4]! * u * v + at[5]! * v * v;
      const force = (bend + GRAVITY) / (1 + gx * gx + gy * gy);
      out[0] = u;
      out[1] = v;
      out[2] = -gx * force - friction * u;
      out[3] = -gy * force - friction * v;
    },
    settle: null,
    firstStep: 0,
    timePerStep: Math.sqrt(rate / GRAVITY),
    midpoint: null,
    place: firstTwo,
    predicted: firstTwo,
  };
}
