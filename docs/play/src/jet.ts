/**
 * Arithmetic of Taylor polynomials in two variables, truncated after the third order.
 *
 * A jet is ten numbers in one array, the coefficients of 1, x, y, x², xy, y², x³, x²y, xy², y³ in
 * the expansion around a point. Carrying a formula out on jets gives its derivatives exactly, up
 * to rounding. Every function takes the array, the places of its operands and result in it, and
 * the order up to which coefficients are wanted: lower orders are much cheaper.
 */

export type Order = 0 | 1 | 2 | 3;

/** How many coefficients a jet has. */
export const JET = 10;

/** How many coefficients there are up to an order. */
export const COEFFICIENTS: readonly number[] = [1, 3, 6, 10];

type Jets = Float64Array;

/** a + s b. */
export function addScaled(j: Jets, out: number, a: number, s: number, b: number, n: Order): void {
  for (let i = 0; i < COEFFICIENTS[n]!; i++) j[out + i] = j[a + i]! + s * j[b + i]!;
}

/** s a. */
export function scale(j: Jets, out: number, a: number, s: number, n: Order): void {
  for (let i = 0; i < COEFFICIENTS[n]!; i++) j[out + i] = s * j[a + i]!;
}

/** a b. The result must not overwrite an operand. */
export function multiply(j: Jets, o: number, a: number, b: number, n: Order): void {
  const a0 = j[a]!, b0 = j[b]!;
  j[o] = a0 * b0;
  if (n < 1) return;
  const a1 = j[a + 1]!, b1 = j[b + 1]!, a2 = j[a + 2]!, b2 = j[b + 2]!;
  j[o + 1] = a0 * b1 + a1 * b0;
  j[o + 2] = a0 * b2 + a2 * b0;
  if (n < 2) return;
  const a3 = j[a + 3]!, b3 = j[b + 3]!, a4 = j[a + 4]!, b4 = j[b + 4]!, a5 = j[a + 5]!, b5 = j[b + 5]!;
  j[o + 3] = a0 * b3 + a1 * b1 + a3 * b0;
  j[o + 4] = a0 * b4 + a1 * b2 + a2 * b1 + a4 * b0;
  j[o + 5] = a0 * b5 + a2 * b2 + a5 * b0;
  if (n < 3) return;
  j[o + 6] = a0 * j[b + 6]! + a1 * b3 + a3 * b1 + j[a + 6]! * b0;
  j[o + 7] = a0 * j[b + 7]! + a1 * b4 + a4 * b1 + a2 * b3 + a3 * b2 + j[a + 7]! * b0;
  j[o + 8] = a0 * j[b + 8]! + a1 * b5 + a5 * b1 + a2 * b4 + a4 * b2 + j[a + 8]! * b0;
  j[o + 9] = a0 * j[b + 9]! + a2 * b5 + a5 * b2 + j[a + 9]! * b0;
}

/**
 * f(a) for a function of one variable with the derivatives f0 to f3 at the value of a.
 *
 * A derivative that is not finite (the slope of a square root at 0) makes what depends on it not
 * finite, even where the inner derivative is 0: the formula is then not differentiable there.
 */
export function compose(
  j: Jets, o: number, a: number, f0: number, f1: number, f2: number, f3: number, n: Order,
): void {
  j[o] = f0;
  if (n < 1) return;
  const d1 = j[a + 1]!, d2 = j[a + 2]!;
  j[o + 1] = f1 * d1;
  j[o + 2] = f1 * d2;
  if (n < 2) return;
  const d3 = j[a + 3]!, d4 = j[a + 4]!, d5 = j[a + 5]!;
  const h = f2 / 2;
  j[o + 3] = f1 * d3 + h * d1 * d1;
  j[o + 4] = f1 * d4 + 2 * h * d1 * d2;
  j[o + 5] = f1 * d5 + h * d2 * d2;
  if (n < 3) return;
  const c = f3 / 6;
  j[o + 6] = f1 * j[a + 6]! + 2 * h * d1 * d3 + c * d1 * d1 * d1;
  j[o + 7] = f1 * j[a + 7]! + 2 * h * (d1 * d4 + d2 * d3) + 3 * c * d1 * d1 * d2;
  j[o + 8] = f1 * j[a + 8]! + 2 * h * (d1 * d5 + d2 * d4) + 3 * c * d1 * d2 * d2;
  j[o + 9] = f1 * j[a + 9]! + 2 * h * d2 * d5 + c * d2 * d2 * d2;
}

/** a^p for a constant exponent p. */
export function power(j: Jets, o: number, a: number, p: number, n: Order): void {
  const v = j[a]!;
  // A factor 0 ends the series: 0 times an infinite power must not become not-a-number.
  const term = (factor: number, exponent: number) => (factor === 0 ? 0 : factor * Math.pow(v, exponent));
  compose(
    j, o, a, Math.pow(v, p), n > 0 ? term(p, p - 1) : 0, n > 1 ? term(p * (p - 1), p - 2) : 0,
    n > 2 ? term(p * (p - 1) * (p - 2), p - 3) : 0, n,
  );
}

export const FUNCTIONS = ["exp", "log", "sin", "cos", "tan", "sqrt", "abs", "tanh"] as const;

export type FunctionName = (typeof FUNCTIONS)[number];

/** One of the named functions of a jet. */
export function apply(j: Jets, o: number, a: number, name: FunctionName, n: Order): void {
  const v = j[a]!;
  switch (name) {
    case "exp": {
      const e = Math.exp(v);
      return compose(j, o, a, e, e, e, e, n);
    }
    case "log": {
      const r = 1 / v;
      return compose(j, o, a, Math.log(v), r, -r * r, 2 * r * r * r, n);
    }
    case "sin": {
      const s = Math.sin(v), c = Math.cos(v);
      return compose(j, o, a, s, c, -s, -c, n);
    }
    case "cos": {
      const s = Math.sin(v), c = Math.cos(v);
      return compose(j, o, a, c, -s, -c, s, n);
    }
    case "tan": {
      const t = Math.tan(v), s = 1 + t * t;
      return compose(j, o, a, t, s, 2 * t * s, 2 * s * (1 + 3 * t * t), n);
    }
    case "sqrt":
      return power(j, o, a, 0.5, n);
    case "abs": {
      const s = Math.sign(v);
      return compose(j, o, a, Math.abs(v), s, 0, 0, n);
    }
    case "tanh": {
      const t = Math.tanh(v), s = 1 - t * t;
      return compose(j, o, a, t, s, -2 * t * s, 2 * s * (3 * t * t - 1), n);
    }
  }
}
