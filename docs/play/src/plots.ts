/** The plots below the landscape: sharpness and tracking error over the steps. */

import { fitCanvas, spoken, ticks } from "./frame.js";
import { drawMarker, type Look, property } from "./looks.js";
import type { Series } from "./series.js";

export interface Curve {
  values: Series;
  firstStep: number;
  /** Null for the iterates of the discrete method. */
  look: Look | null;
}

const LENGTHS = [50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000];
const MARGIN = { left: 46, right: 14, top: 12, bottom: 26 };

export class Plot {
  private context!: CanvasRenderingContext2D;
  private width = 0;
  private height = 0;

  constructor(private readonly canvas: HTMLCanvasElement, private readonly logarithmic: boolean) {
    this.resize();
  }

  resize(): void {
    const { context, width, height } = fitCanvas(this.canvas);
    this.context = context;
    this.width = width;
    this.height = height;
  }

  /** Draw the curves up to a step, with a threshold where there is one. */
  draw(curves: readonly Curve[], step: number, threshold: { value: number; label: string } | null): void {
    const { context, width, height } = this;
    context.clearRect(0, 0, width, height);
    const most = LENGTHS.find((length) => length >= step) ?? step;
    const [low, high] = this.range(curves, step, threshold?.value ?? null);
    const left = MARGIN.left, right = width - MARGIN.right, top = MARGIN.top, bottom = height - MARGIN.bottom;
    const x = (t: number) => left + (t / most) * (right - left);
    const scaled = (value: number) => (this.logarithmic ? Math.log10(value) : value);
    const y = (value: number) => bottom - ((scaled(value) - low) / (high - low)) * (bottom - top);
    this.axes(most, low, high, x, (value) => bottom - ((value - low) / (high - low)) * (bottom - top));
    context.save();
    context.beginPath();
    context.rect(left, top - 4, right - left + 4, bottom - top + 4);
    context.clip();
    for (const curve of curves) this.curve(curve, step, x, y, (right - left) / most);
    if (threshold !== null) this.threshold(threshold, left, right, y);
    const edge = property("--card");
    for (const { values, firstStep, look } of curves) {
      const last = Math.min(step - firstStep, values.length - 1);
      if (look === null || last < 0 || !Number.isFinite(scaled(values.at(last)))) continue;
      drawMarker(context, look.marker, x(firstStep + last), y(values.at(last)), 4, property(look.color), edge);
    }
    context.restore();
  }

  private range(curves: readonly Curve[], step: number, threshold: number | null): [number, number] {
    let low = Infinity, high = -Infinity;
    for (const { values, firstStep } of curves) {
      const end = Math.min(values.length, step - firstStep + 1);
      for (let i = 0; i < end; i++) {
        const value = values.at(i);
        if (this.logarithmic && !(value > 1e-9)) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    if (this.logarithmic) {
      if (!(high > 0)) return [-4, 0];
      const top = Math.min(4, Math.ceil(Math.log10(high) + 0.05));
      return [Math.max(Math.min(Math.floor(Math.log10(low)), top - 2), top - 7, -9), top];
    }
    if (!Number.isFinite(low + high)) [low, high] = [0, 1];
    if (threshold !== null) {
      // What goes far beyond the threshold is cut off: it is the threshold that matters.
      high = Math.min(Math.max(high, 1.1 * threshold), 3 * threshold);
      low = Math.max(Math.min(low, 0.9 * threshold), -threshold);
    }
    const margin = 0.06 * (high - low || 1);
    return [low - margin, high + margin];
  }

  private axes(most: number, low: number, high: number, x: (t: number) => number, y: (value: number) => number): void {
    const { context, width, height } = this;
    context.font = "12px system-ui, sans-serif";
    context.lineWidth = 1;
    context.setLineDash([]);
    context.textAlign = "right";
    context.textBaseline = "middle";
    const steps = this.logarithmic ? ticks(low, high, Math.min(high - low, height / 34)) : ticks(low, high, height / 44);
    context.fillStyle = property("--muted");
    for (const value of steps) {
      if (this.logarithmic && !Number.isInteger(value)) continue;
      const at = Math.round(y(value)) + 0.5;
      context.strokeStyle = property("--grid");
      context.beginPath();
      context.moveTo(MARGIN.left, at);
      context.lineTo(width - MARGIN.right, at);
      context.stroke();
      context.fillText(this.logarithmic ? power(value) : spoken(value), MARGIN.left - 7, at);
    }
    context.textAlign = "center";
    context.textBaseline = "top";
    const bottom = height - MARGIN.bottom;
    // All lengths can be divided by two and by five.
    const parts = width > 340 ? 5 : 2;
    for (let i = 0; i <= parts; i++) {
      const t = (most * i) / parts, last = i === parts;
      context.textAlign = last ? "right" : "center";
      context.fillText(last ? `step ${t}` : String(t), last ? width - MARGIN.right + 8 : x(t), bottom + 7);
    }
    context.strokeStyle = property("--rule");
    context.beginPath();
    context.moveTo(MARGIN.left, bottom + 0.5);
    context.lineTo(width - MARGIN.right, bottom + 0.5);
    context.stroke();
  }

  private threshold({ value, label }: { value: number; label: string }, left: number, right: number, y: (value: number) => number): void {
    const { context } = this;
    const at = Math.round(y(value)) + 0.5;
    context.strokeStyle = property("--ink");
    context.lineWidth = 1.2;
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(left, at);
    context.lineTo(right, at);
    context.stroke();
    context.setLineDash([]);
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "bottom";
    context.lineWidth = 4;
    context.strokeStyle = property("--card");
    context.lineJoin = "round";
    context.strokeText(label, left + 6, at - 3);
    context.fillStyle = property("--ink");
    context.fillText(label, left + 6, at - 3);
  }

  /** Draw a curve; where many steps fall on one pixel, the range of their values. */
  private curve(
    { values, firstStep, look }: Curve, step: number, x: (t: number) => number, y: (value: number) => number, pixelsPerStep: number,
  ): void {
    const { context } = this;
    const end = Math.min(values.length, step - firstStep + 1);
    context.strokeStyle = property(look?.color ?? "--ink");
    context.lineWidth = look === null ? 0.9 : 2;
    context.globalAlpha = look === null ? 0.7 : 1;
    context.setLineDash(look === null ? [] : [...look.dash]);
    context.lineJoin = "round";
    context.beginPath();
    const perPixel = Math.max(1, Math.ceil(0.8 / pixelsPerStep));
    const clamp = (pixel: number) => Math.min(4000, Math.max(-4000, pixel));
    let open = false;
    for (let i = 0; i < end; i += perPixel) {
      let low = Infinity, high = -Infinity;
      for (let k = i; k < Math.min(end, i + perPixel); k++) {
        const value = values.at(k);
        if (this.logarithmic ? value > 0 : Number.isFinite(value)) {
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
      if (low > high) {
        open = false;
        continue;
      }
      const px = x(firstStep + i), from = clamp(y(low)), to = clamp(y(high));
      if (open) context.lineTo(px, from);
      else context.moveTo(px, from);
      if (Math.abs(to - from) > 0.5) context.lineTo(px, to);
      open = true;
    }
    context.stroke();
    context.globalAlpha = 1;
  }
}

const power = (exponent: number): string =>
  exponent === 0 ? "1" : exponent === 1 ? "10" : exponent === -1 ? "0.1" : `10${[...String(exponent)].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)])).join("")}`;
