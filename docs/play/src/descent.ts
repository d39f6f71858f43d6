/** Gradient descent with and without momentum, as a map z -> z + F(z) of phase space. */

import { derivatives, type Loss } from "./losses.js";

/**
 * The heavy ball, m' = βm + g, w' = w - ηm' from m = 0; with β = 0 it is gradient descent, w' = w - ηg.
 *
 * A point of phase space is (x, y) for gradient descent and (x, y, mx, my) with momentum.
 */
export class Descent {
  /** 2, or 4 with momentum. */
  readonly dimension: 2 | 4;
  private readonly at = derivatives();

  constructor(
    readonly loss: Loss,
    readonly rate: number,
    readonly momentum: number,
  ) {
    this.dimension = momentum === 0 ? 2 : 4;
  }

  /** The sharpness above which it is unstable, 2(1 + β)/η. */
  get threshold(): number {
    return (2 * (1 + this.momentum)) / this.rate;
  }

  /** How fast it follows the gradient at small steps, η/(1 - β). */
  get limitRate(): number {
    return this.rate / (1 - this.momentum);
  }

  /** The point of phase space at rest at (x, y). */
  start(x: number, y: number): Float64Array {
    const z = new Float64Array(this.dimension);
    z[0] = x;
    z[1] = y;
    return z;
  }

  /** F(z). */
  increment(z: Float64Array, out: Float64Array): void {
    const { at, rate, momentum } = this;
    this.loss.evaluate(z[0]!, z[1]!, 1, at);
    if (this.dimension === 2) {
      out[0] = -rate * at[1]!;
      out[1] = -rate * at[2]!;
      return;
    }
    const mx = momentum * z[2]! + at[1]!, my = momentum * z[3]! + at[2]!;
    out[0] = -rate * mx;
    out[1] = -rate * my;
    out[2] = mx - z[2]!;
    out[3] = my - z[3]!;
  }

  /** DF(z) v, the directional derivative of F. */
  derivative(z: Float64Array, v: Float64Array, out: Float64Array): void {
    const { at, rate, momentum } = this;
    this.loss.evaluate(z[0]!, z[1]!, 2, at);
    const hx = at[3]! * v[0]! + at[4]! * v[1]!, hy = at[4]! * v[0]! + at[5]! * v[1]!;
    if (this.dimension === 2) {
      out[0] = -rate * hx;
      out[1] = -rate * hy;
      return;
    }
    const mx = momentum * v[2]! + hx, my = momentum * v[3]! + hy;
    out[0] = -rate * mx;
    out[1] = -rate * my;
    out[2] = mx - v[2]!;
    out[3] = my - v[3]!;
  }

  /** One step, in place. */
  step(z: Float64Array, scratch: Float64Array): void {
    this.increment(z, scratch);
    for (let i = 0; i < z.length; i++) z[i]! += scratch[i]!;
  }
}
