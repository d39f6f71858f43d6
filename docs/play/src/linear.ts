/** Eigenvalues of small symmetric matrices. */

/** The larger eigenvalue of [[a, b], [b, d]]. */
export function largestEigenvalue(a: number, b: number, d: number): number {
  return (a + d) / 2 + Math.hypot((a - d) / 2, b);
}

/** Both eigenvalues of [[a, b], [b, d]], the larger first, and the unit eigenvector (cos, sin) of the first. */
export function eigenpairs2(a: number, b: number, d: number): [number, number, number, number] {
  const mean = (a + d) / 2, half = (a - d) / 2, spread = Math.hypot(half, b);
  const angle = 0.5 * Math.atan2(b, half);
  return [mean + spread, mean - spread, Math.cos(angle), Math.sin(angle)];
}

/**
 * Eigenpairs of a symmetric n x n matrix by Jacobi's rotations, the largest eigenvalue first.
 *
 * @param matrix Its n * n entries; they are overwritten.
 * @param values Takes the n eigenvalues.
 * @param vectors Takes the n unit eigenvectors, as rows.
 */
export function eigenpairs(matrix: Float64Array, n: number, values: Float64Array, vectors: Float64Array): void {
  vectors.fill(0);
  for (let i = 0; i < n; i++) vectors[i * n + i] = 1;
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0, scale = 0;
    for (let i = 0; i < n; i++) {
      scale += matrix[i * n + i]! ** 2;
      for (let k = 0; k < i; k++) off += matrix[i * n + k]! ** 2;
    }
    if (!(off > 1e-32 * scale)) break;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) rotate(matrix, vectors, n, p, q);
    }
  }
  for (let i = 0; i < n; i++) values[i] = matrix[i * n + i]!;
  // Sorted by insertion: n is 2 or 4.
  for (let i = 1; i < n; i++) {
    for (let k = i; k > 0 && values[k]! > values[k - 1]!; k--) {
      [values[k], values[k - 1]] = [values[k - 1]!, values[k]!];
      for (let c = 0; c < n; c++) {
        const at = k * n + c;
        [vectors[at], vectors[at - n]] = [vectors[at - n]!, vectors[at]!];
      }
    }
  }
}

function rotate(m: Float64Array, v: Float64Array, n: number, p: number, q: number): void {
  const b = m[p * n + q]!;
  if (b === 0) return;
  const theta = (m[q * n + q]! - m[p * n + p]!) / (2 * b);
  const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.hypot(theta, 1));
  const c = 1 / Math.hypot(t, 1), s = t * c;
  for (let k = 0; k < n; k++) {
    const x = m[k * n + p]!, y = m[k * n + q]!;
    m[k * n + p] = c * x - s * y;
    m[k * n + q] = s * x + c * y;
  }
  for (let k = 0; k < n; k++) {
    const x = m[p * n + k]!, y = m[q * n + k]!;
    m[p * n + k] = c * x - s * y;
    m[q * n + k] = s * x + c * y;
    const vx = v[p * n + k]!, vy = v[q * n + k]!;
    v[p * n + k] = c * vx - s * vy;
    v[q * n + k] = s * vx + c * vy;
  }
}
