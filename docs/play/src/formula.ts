/** A parser of formulas in x and y, and their derivatives by arithmetic of jets; no `eval`. */

import { addScaled, apply, compose, FUNCTIONS, type FunctionName, JET, multiply, type Order, power, scale } from "./jet.js";
import type { Derivatives, Loss } from "./losses.js";

/** What is wrong with a formula, in a sentence, and where. */
export class FormulaError extends Error {
  /** @param position The place in the text, counted from 1. */
  constructor(message: string, readonly position: number) {
    super(message);
  }
}

type Node =
  | { kind: "number"; value: number }
  | { kind: "variable"; name: "x" | "y" }
  | { kind: "+" | "-" | "*" | "/" | "^"; left: Node; right: Node }
  | { kind: "negative"; of: Node }
  | { kind: "call"; name: FunctionName; of: Node };

type Token = { kind: "number" | "name" | "sign" | "end"; text: string; position: number };

const LONGEST = 600;
const DEEPEST = 60;
const CONSTANTS: Readonly<Record<string, number>> = { pi: Math.PI };

function tokens(text: string): Token[] {
  if (text.length > LONGEST) {
    throw new FormulaError(`The formula has ${text.length} characters; at most ${LONGEST} are allowed.`, LONGEST + 1);
  }
  const found: Token[] = [];
  const pattern = /\s*(?:((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|([A-Za-z_][A-Za-z_0-9]*)|(\*\*|[-+*/^()−·×]))/y;
  let at = 0;
  for (;;) {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match === null) break;
    const [, number, name, sign] = match;
    const position = pattern.lastIndex - (number ?? name ?? sign)!.length + 1;
    at = pattern.lastIndex;
    if (number !== undefined) found.push({ kind: "number", text: number, position });
    else if (name !== undefined) found.push({ kind: "name", text: name, position });
    else {
      const plain = { "**": "^", "−": "-", "·": "*", "×": "*" }[sign!] ?? sign!;
      found.push({ kind: "sign", text: plain, position });
    }
  }
  const rest = text.slice(at);
  const unknown = rest.trimStart();
  if (unknown !== "") {
    const position = at + rest.length - unknown.length + 1;
    throw new FormulaError(`“${[...unknown][0]}” at position ${position} is not allowed in a formula.`, position);
  }
  found.push({ kind: "end", text: "", position: text.length + 1 });
  return found;
}

class Parser {
  private readonly tokens: Token[];
  private next = 0;
  private depth = 0;

  constructor(text: string) {
    this.tokens = tokens(text);
  }

  parse(): Node {
    if (this.peek().kind === "end") throw new FormulaError("The formula is empty. Write a loss of x and y, such as x^2 + y^2.", 1);
    const whole = this.sum();
    const { kind, text, position } = this.peek();
    if (kind === "end") return whole;
    if (text === ")") throw new FormulaError(`The “)” at position ${position} closes no parenthesis.`, position);
    throw new FormulaError(`An operator such as * is missing before “${text}” at position ${position}.`, position);
  }

  private peek(): Token {
    return this.tokens[this.next]!;
  }

  private takes(...signs: string[]): string | null {
    const { kind, text } = this.peek();
    if (kind !== "sign" || !signs.includes(text)) return null;
    this.next += 1;
    return text;
  }

  private nested<T>(position: number, inner: () => T): T {
    if (++this.depth > DEEPEST) {
      throw new FormulaError(`The formula is nested more than ${DEEPEST} deep at position ${position}.`, position);
    }
    const found = inner();
    this.depth -= 1;
    return found;
  }

  private sum(): Node {
    let left = this.product();
    for (let sign = this.takes("+", "-"); sign !== null; sign = this.takes("+", "-")) {
      left = combined(sign as "+" | "-", left, this.product());
    }
    return left;
  }

  private product(): Node {
    let left = this.signed();
    for (let sign = this.takes("*", "/"); sign !== null; sign = this.takes("*", "/")) {
      left = combined(sign as "*" | "/", left, this.signed());
    }
    return left;
  }

  private signed(): Node {
    const { position } = this.peek();
    const sign = this.takes("-", "+");
    if (sign === null) return this.powered();
    return this.nested(position, () => {
      const of = this.signed();
      if (sign === "+") return of;
      return of.kind === "number" ? { kind: "number", value: -of.value } : { kind: "negative", of };
    });
  }

  private powered(): Node {
    const base = this.atom();
    const { position } = this.peek();
    if (this.takes("^") === null) return base;
    // Powers associate to the right, and bind more strongly than the sign before them.
    return combined("^", base, this.nested(position, () => this.signed()));
  }

  private atom(): Node {
    const { kind, text, position } = this.peek();
    this.next += 1;
    if (kind === "number") return { kind: "number", value: Number(text) };
    if (kind === "name") {
      if (text === "x" || text === "y") return { kind: "variable", name: text };
      const value = Object.hasOwn(CONSTANTS, text) ? CONSTANTS[text] : undefined;
      if (value !== undefined) return { kind: "number", value };
      const name = FUNCTIONS.find((known) => known === text);
      if (name === undefined) {
        throw new FormulaError(
          `“${text}” at position ${position} is unknown: a formula may use x, y, pi and ${FUNCTIONS.join(", ")}.`, position,
        );
      }
      if (this.takes("(") === null) {
        throw new FormulaError(`A “(” is missing after ${name} at position ${position}: write ${name}(x).`, position);
      }
      return called(name, this.parenthesized(position));
    }
    if (text === "(") return this.parenthesized(position);
    if (kind === "end") throw new FormulaError(`The formula ends at position ${position} where a number, x, y or “(” is expected.`, position);
    throw new FormulaError(`A number, x, y or “(” is expected instead of “${text}” at position ${position}.`, position);
  }

  private parenthesized(opened: number): Node {
    const inner = this.nested(opened, () => this.sum());
    if (this.takes(")") !== null) return inner;
    const { kind, text, position } = this.peek();
    if (kind === "end") throw new FormulaError(`The parenthesis opened at position ${opened} is not closed.`, opened);
    throw new FormulaError(`An operator such as * is missing before “${text}” at position ${position}.`, position);
  }
}

function called(name: FunctionName, of: Node): Node {
  if (of.kind !== "number") return { kind: "call", name, of };
  const jet = new Float64Array(2 * JET);
  jet[0] = of.value;
  apply(jet, JET, 0, name, 0);
  return { kind: "number", value: jet[JET]! };
}

function combined(kind: "+" | "-" | "*" | "/" | "^", left: Node, right: Node): Node {
  if (left.kind === "number" && right.kind === "number") {
    const [a, b] = [left.value, right.value];
    const value = { "+": a + b, "-": a - b, "*": a * b, "/": a / b, "^": Math.pow(a, b) }[kind];
    return { kind: "number", value };
  }
  return { kind, left, right };
}

const enum Op { Add, Subtract, Multiply, Divide, Power, Scale, Negate, Exponential, Call }

/** One operation: its result and operands are places of jets, `value` a constant or a function's number. */
type Step = { op: Op; out: number; a: number; b: number; value: number };

/** A formula, compiled to a list of operations on jets. */
export class Formula implements Loss {
  private readonly jets: Float64Array;
  private readonly steps: Step[] = [];
  private readonly result: number;
  private used = 2;
  private readonly constants: [number, number][] = [];

  /** @throws FormulaError If the text is no formula. */
  constructor(readonly text: string) {
    this.result = this.compile(new Parser(text).parse());
    this.jets = new Float64Array(this.used * JET);
    this.jets[1] = 1;
    this.jets[JET + 2] = 1;
    for (const [place, value] of this.constants) this.jets[place] = value;
  }

  evaluate(x: number, y: number, order: Order, out: Derivatives): void {
    const j = this.jets;
    j[0] = x;
    j[JET] = y;
    for (const { op, out: o, a, b, value } of this.steps) {
      switch (op) {
        case Op.Add: addScaled(j, o, a, 1, b, order); break;
        case Op.Subtract: addScaled(j, o, a, -1, b, order); break;
        case Op.Multiply: multiply(j, o, a, b, order); break;
        case Op.Scale: scale(j, o, a, value, order); break;
        case Op.Negate: scale(j, o, a, -1, order); break;
        case Op.Power:
          if (value === 2) multiply(j, o, a, a, order);
          else power(j, o, a, value, order);
          break;
        case Op.Divide: {
          // a / b = a (1/b); 1/b goes to the place after the result.
          power(j, o + JET, b, -1, order);
          multiply(j, o, a, o + JET, order);
          break;
        }
        case Op.Exponential: {
          // value^a.
          const l = Math.log(value), e = Math.pow(value, j[a]!);
          compose(j, o, a, e, e * l, e * l * l, e * l * l * l, order);
          break;
        }
        case Op.Call: apply(j, o, a, FUNCTIONS[value]!, order); break;
      }
    }
    const r = this.result;
    out[0] = j[r]!;
    if (!Number.isFinite(out[0])) {
      // Where the loss is not defined it has no derivatives either, though 1/x, that of log, goes on below 0.
      out.fill(NaN);
      return;
    }
    if (order < 1) return;
    out[1] = j[r + 1]!;
    out[2] = j[r + 2]!;
    if (order < 2) return;
    out[3] = 2 * j[r + 3]!;
    out[4] = j[r + 4]!;
    out[5] = 2 * j[r + 5]!;
    if (order < 3) return;
    out[6] = 6 * j[r + 6]!;
    out[7] = 2 * j[r + 7]!;
    out[8] = 2 * j[r + 8]!;
    out[9] = 6 * j[r + 9]!;
  }

  private place(jets = 1): number {
    this.used += jets;
    return (this.used - jets) * JET;
  }

  private add(op: Op, a: number, b = 0, value = 0, jets = 1): number {
    const out = this.place(jets);
    this.steps.push({ op, out, a, b, value });
    return out;
  }

  private compile(node: Node): number {
    switch (node.kind) {
      case "number": {
        const out = this.place();
        this.constants.push([out, node.value]);
        return out;
      }
      case "variable": return node.name === "x" ? 0 : JET;
      case "negative": return this.add(Op.Negate, this.compile(node.of));
      case "call": return this.add(Op.Call, this.compile(node.of), 0, FUNCTIONS.indexOf(node.name));
      case "+": return this.add(Op.Add, this.compile(node.left), this.compile(node.right));
      case "-": return this.add(Op.Subtract, this.compile(node.left), this.compile(node.right));
      case "*":
        if (node.left.kind === "number") return this.add(Op.Scale, this.compile(node.right), 0, node.left.value);
        if (node.right.kind === "number") return this.add(Op.Scale, this.compile(node.left), 0, node.right.value);
        return this.add(Op.Multiply, this.compile(node.left), this.compile(node.right));
      case "/":
        if (node.right.kind === "number") return this.add(Op.Scale, this.compile(node.left), 0, 1 / node.right.value);
        return this.add(Op.Divide, this.compile(node.left), this.compile(node.right), 0, 2);
      case "^": {
        if (node.right.kind === "number") return this.add(Op.Power, this.compile(node.left), 0, node.right.value);
        const exponent = this.compile(node.right);
        if (node.left.kind === "number") return this.add(Op.Exponential, exponent, 0, node.left.value);
        const log = this.add(Op.Call, this.compile(node.left), 0, FUNCTIONS.indexOf("log"));
        return this.add(Op.Call, this.add(Op.Multiply, exponent, log), 0, FUNCTIONS.indexOf("exp"));
      }
    }
  }
}
