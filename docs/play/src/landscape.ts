/** The level sets of a loss: shaded bands, and lines by marching squares. */

import { type Frame, ticks, spoken } from "./frame.js";
import { derivatives, type Loss } from "./losses.js";
import { property } from "./looks.js";

const CELL = 5;
const LEVELS = 15;

/** Paint the landscape; returns the share of the picture in which the loss is not defined. */
export function paintLandscape(context: CanvasRenderingContext2D, frame: Frame, loss: Loss, dark: boolean): number {
  const columns = Math.max(2, Math.ceil(frame.width / CELL)), rows = Math.max(2, Math.ceil(frame.height / CELL));
  const dx = frame.width / columns, dy = frame.height / rows;
  const across = columns + 1, count = across * (rows + 1);
  const values = new Float64Array(count), at = derivatives();
  for (let row = 0; row <= rows; row++) {
    for (let column = 0; column <= columns; column++) {
      const [x, y] = frame.at(frame.left + column * dx, frame.top + row * dy);
      loss.evaluate(x, y, 0, at);
      values[row * across + column] = Number.isFinite(at[0]!) ? at[0]! : NaN;
    }
  }
  const sorted = values.filter((value) => !Number.isNaN(value)).sort();
  context.clearRect(0, 0, frame.right + 20, frame.bottom + 40);
  if (sorted.length > 0) {
    shade(context, frame, values, sorted, across, rows + 1, dark);
    // Levels at equal shares of the area: they show something in every landscape.
    const levels = new Set<number>();
    for (let i = 1; i < LEVELS; i++) levels.add(sorted[Math.floor((i / LEVELS) * (sorted.length - 1))]!);
    context.strokeStyle = property("--contour");
    context.lineWidth = 1;
    for (const level of levels) contour(context, frame, values, level, columns, rows, dx, dy);
  }
  axes(context, frame);
  return 1 - sorted.length / count;
}

/** The colour of each point is its rank among all points: from low, which is darker, to high. */
function shade(
  context: CanvasRenderingContext2D, frame: Frame, values: Float64Array, sorted: Float64Array, across: number, down: number, dark: boolean,
): void {
  const image = new ImageData(across, down);
  const low = dark ? [11, 16, 24] : [206, 219, 230], high = dark ? [43, 51, 63] : [250, 249, 245];
  values.forEach((value, i) => {
    if (Number.isNaN(value)) return;
    let from = 0, to = sorted.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if (sorted[middle]! < value) from = middle + 1;
      else to = middle;
    }
    const share = from / sorted.length;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = low[c]! + share * (high[c]! - low[c]!);
    image.data[4 * i + 3] = 255;
  });
  const small = document.createElement("canvas");
  small.width = across;
  small.height = down;
  small.getContext("2d")!.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0.5, 0.5, across - 1, down - 1, frame.left, frame.top, frame.width, frame.height);
}

/** Draw the line on which the loss has a value. */
function contour(
  context: CanvasRenderingContext2D, frame: Frame, values: Float64Array, level: number, columns: number, rows: number, dx: number, dy: number,
): void {
  const across = columns + 1;
  context.beginPath();
  const crossing: number[] = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const i = row * across + column;
      // The corners, clockwise from the upper left one.
      const a = values[i]! - level, b = values[i + 1]! - level, c = values[i + across + 1]! - level, d = values[i + across]! - level;
      const kind = (a > 0 ? 1 : 0) | (b > 0 ? 2 : 0) | (c > 0 ? 4 : 0) | (d > 0 ? 8 : 0);
      if (kind === 0 || kind === 15 || Number.isNaN(a + b + c + d)) continue;
      const x = frame.left + column * dx, y = frame.top + row * dy;
      crossing.length = 0;
      if (a > 0 !== b > 0) crossing.push(x + (dx * a) / (a - b), y);
      if (b > 0 !== c > 0) crossing.push(x + dx, y + (dy * b) / (b - c));
      if (c > 0 !== d > 0) crossing.push(x + (dx * d) / (d - c), y + dy);
      if (d > 0 !== a > 0) crossing.push(x, y + (dy * a) / (a - d));
      // Two lines cross the cell of a saddle. In the order above they cut off the corners b and d; where the
      // middle is on the other side than a, it is the corners a and c.
      if (crossing.length === 8 && a > 0 !== a + b + c + d > 0) crossing.push(crossing.shift()!, crossing.shift()!);
      for (let k = 0; k + 3 < crossing.length; k += 4) {
        context.moveTo(crossing[k]!, crossing[k + 1]!);
        context.lineTo(crossing[k + 2]!, crossing[k + 3]!);
      }
    }
  }
  context.stroke();
}

function axes(context: CanvasRenderingContext2D, frame: Frame): void {
  const [x0, x1, y0, y1] = frame.window;
  context.strokeStyle = property("--rule");
  context.lineWidth = 1;
  context.strokeRect(frame.left + 0.5, frame.top + 0.5, frame.width - 1, frame.height - 1);
  context.fillStyle = property("--muted");
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const x of ticks(x0, x1, frame.width / 90)) {
    const px = frame.x(x);
    if (px > frame.right - 20) continue;
    context.fillText(spoken(x), px, frame.bottom + 7);
    context.fillRect(Math.round(px), frame.bottom, 1, 4);
  }
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const y of ticks(y0, y1, frame.height / 70)) {
    const py = frame.y(y);
    if (py < frame.top + 18) continue;
    context.fillText(spoken(y), frame.left - 7, py);
    context.fillRect(frame.left - 4, Math.round(py), 4, 1);
  }
  context.font = "italic 14px Georgia, serif";
  context.fillStyle = property("--ink");
  context.fillText("y", frame.left - 8, frame.top + 7);
  context.textAlign = "right";
  context.textBaseline = "top";
  context.fillText("x", frame.right - 2, frame.bottom + 5);
}
