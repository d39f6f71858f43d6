/** From the plane of the parameters to the pixels of a canvas, and back. */

import type { View } from "./losses.js";

export type Window = readonly [number, number, number, number];

/** A canvas that fits its element, in units of CSS pixels. */
export function fitCanvas(canvas: HTMLCanvasElement): { context: CanvasRenderingContext2D; width: number; height: number } {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d")!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

/** Round numbers for the ticks of an axis, some `count` of them. */
export function ticks(low: number, high: number, count: number): number[] {
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= 0.75 * raw) ?? 10);
  const found: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

/** A number as a person writes it, with a true minus sign. */
export function spoken(value: number, digits = 4): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? exponential(value, digits) : String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}

function exponential(value: number, digits: number): string {
  const [mantissa, exponent] = value.toExponential(Math.max(0, Math.min(digits, 3) - 1)).split("e");
  return `${mantissa}·10${[...exponent!.replace("+", "")].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)])).join("")}`;
}

/** The part of the plane that is shown, in the part of a canvas that shows it. */
export class Frame {
  readonly left = 40;
  readonly bottom: number;
  readonly right: number;
  readonly top = 10;

  constructor(readonly window: Window, width: number, height: number) {
    this.right = width - 10;
    this.bottom = height - 26;
  }

  /** The frame for a view, made wider or higher where both axes must have the same scale. */
  static of(view: View, width: number, height: number): Frame {
    const usual = new Frame([view.x[0], view.x[1], view.y[0], view.y[1]], width, height);
    if (!view.equal) return usual;
    const across = usual.right - usual.left, up = usual.bottom - usual.top;
    const [x0, x1, y0, y1] = usual.window;
    const scale = Math.max((x1 - x0) / across, (y1 - y0) / up);
    const [cx, cy] = [(x0 + x1) / 2, (y0 + y1) / 2];
    const [hx, hy] = [(scale * across) / 2, (scale * up) / 2];
    return new Frame([cx - hx, cx + hx, cy - hy, cy + hy], width, height);
  }

  get width(): number {
    return this.right - this.left;
  }

  get height(): number {
    return this.bottom - this.top;
  }

  x(x: number): number {
    const [x0, x1] = this.window;
    return this.left + ((x - x0) / (x1 - x0)) * this.width;
  }

  y(y: number): number {
    const [, , y0, y1] = this.window;
    return this.bottom - ((y - y0) / (y1 - y0)) * this.height;
  }

  /** The parameters at a pixel. */
  at(px: number, py: number): [number, number] {
    const [x0, x1, y0, y1] = this.window;
    return [x0 + ((px - this.left) / this.width) * (x1 - x0), y0 + ((this.bottom - py) / this.height) * (y1 - y0)];
  }

  /** The window with its sides multiplied by a factor, around its middle. */
  zoomed(factor: number): Window {
    const [x0, x1, y0, y1] = this.window;
    const [cx, cy, hx, hy] = [(x0 + x1) / 2, (y0 + y1) / 2, (factor * (x1 - x0)) / 2, (factor * (y1 - y0)) / 2];
    return [cx - hx, cx + hx, cy - hy, cy + hy];
  }
}
