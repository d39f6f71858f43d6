/** Rod Flow: two iterates in succession are the ends of a rod (arXiv 2602.01480, 2605.06821). */

import type { Descent } from "../descent.js";
import { eigenpairs } from "../linear.js";
import { firstTwo, type Flow } from "./flow.js";

/**
 * With rods d_i = √s_i u_i from the leading eigenpairs of Σ and an optimizer's map z -> z + F(z),
 *
 *     F̄ = F(c) + Σ_i [(F(c + d_i) + F(c - d_i))/2 - F(c)],   D_i = (F(c + d_i) - F(c - d_i))/2,
 *     dc/dt = F̄ - (DF̄ F̄)/2,   dΣ/dt = (F̄F̄ᵀ + Σ_i D_i D_iᵀ)/2 - 2Σ.
 *
 * The state is c followed by the n x n entries of Σ. It starts as the rod between the first two iterates.
 */
export function rodFlow(descent: Descent, rank: 1 | 2, x: number, y: number): Flow {
  const n = descent.dimension;
  const start = descent.start(x, y), first = new Float64Array(n);
  descent.increment(start, first);
  const state = new Float64Array(n + n * n);
  for (let i = 0; i < n; i++) {
    state[i] = start[i]! + first[i]! / 2;
    for (let k = 0; k < n; k++) state[n + i * n + k] = (first[i]! * first[k]!) / 4;
  }
  const matrix = new Float64Array(n * n), values = new Float64Array(n), vectors = new Float64Array(n * n);
  const point = new Float64Array(n), value = new Float64Array(n), mean = new Float64Array(n);
  const change = new Float64Array(n);
  const spreads = Array.from({ length: rank }, () => new Float64Array(n));

  const decompose = (z: Float64Array): void => {
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < n; k++) matrix[i * n + k] = 0.5 * (z[n + i * n + k]! + z[n + k * n + i]!);
    }
    eigenpairs(matrix, n, values, vectors);
  };

  /** Call `visit` at the points c + d_i, c - d_i and, for several rods, c, with their weights in the mean. */
  const overPoints = (z: Float64Array, visit: (weight: number, rod: number, sign: number) => void): void => {
    for (let i = 0; i < rank; i++) {
      const length = Math.sqrt(Math.max(values[i]!, 0));
      for (const sign of [1, -1]) {
        for (let k = 0; k < n; k++) point[k] = z[k]! + sign * length * vectors[i * n + k]!;
        visit(0.5, i, sign);
      }
    }
    if (rank === 1) return;
    for (let k = 0; k < n; k++) point[k] = z[k]!;
    visit(1 - rank, 0, 0);
  };

  return {
    state,
    field: (z, out) => {
      decompose(z);
      mean.fill(0);
      for (const spread of spreads) spread.fill(0);
      overPoints(z, (weight, rod, sign) => {
        descent.increment(point, value);
        for (let k = 0; k < n; k++) {
          mean[k]! += weight * value[k]!;
          spreads[rod]![k]! += 0.5 * sign * value[k]!;
        }
      });
      change.fill(0);
      overPoints(z, (weight) => {
        descent.derivative(point, mean, value);
        for (let k = 0; k < n; k++) change[k]! += weight * value[k]!;
      });
      for (let i = 0; i < n; i++) {
        out[i] = mean[i]! - 0.5 * change[i]!;
        for (let k = 0; k < n; k++) {
          let feed = mean[i]! * mean[k]!;
          for (const spread of spreads) feed += spread[i]! * spread[k]!;
          out[n + i * n + k] = 0.5 * feed - 2 * z[n + i * n + k]!;
        }
      }
    },
    // Σ is put back to what a covariance can be: symmetric and positive.
    settle: (z) => {
      decompose(z);
      if (!(values[n - 1]! < 0)) return true;
      for (let i = 0; i < n; i++) {
        for (let k = 0; k < n; k++) {
          let sum = 0;
          for (let m = 0; m < n; m++) sum += Math.max(values[m]!, 0) * vectors[m * n + i]! * vectors[m * n + k]!;
          z[n + i * n + k] = sum;
        }
      }
      return true;
    },
    firstStep: 0,
    timePerStep: 1,
    midpoint: "two_point",
    place: firstTwo,
    predicted: firstTwo,
  };
}
