/** The parser: what it reads, what it refuses and with which sentence, and its derivatives. */

import assert from "node:assert/strict";
import test from "node:test";
import { derivatives, Formula, FormulaError, lossOf } from "../build/core.mjs";

const value = (text, x = 0, y = 0) => {
  const out = derivatives();
  new Formula(text).evaluate(x, y, 0, out);
  return out[0];
};

test("precedence, signs and associativity are those of mathematics", () => {
  const cases = [
    ["2 + 3*4", 14], ["2 - 3 - 4", -5], ["12/3/2", 2], ["2^3^2", 512], ["-2^2", -4], ["2^-1", 0.5], ["(2 + 3)*4", 20],
    ["--2", 2], ["+x - -y", 5], ["2*-x", -4], ["1e-2*100", 1], [".5 + 1.", 1.5], ["x**2", 4], ["x·y − 1", 5], ["pi - 3.141592653589793", 0],
    ["exp(log(x))", 2], ["sqrt(x^2 + y^2)", Math.hypot(2, 3)], ["abs(-x)^y", 8], ["tanh(0)", 0], ["x^y", 8], ["2^x", 4],
  ];
  for (const [text, expected] of cases) assert.ok(Math.abs(value(text, 2, 3) - expected) < 1e-14, `${text} is ${value(text, 2, 3)}`);
});

test("what is wrong is said in a sentence, with its position", () => {
  const cases = [
    ["", 1, /empty/], ["   ", 1, /empty/], ["x +", 4, /ends at position 4/], ["2x", 2, /operator such as \* is missing before “x”/],
    ["x + z", 5, /“z” at position 5 is unknown/], ["sin x", 1, /“\(” is missing after sin/], ["(x + 1", 1, /not closed/],
    ["x + 1)", 6, /closes no parenthesis/], ["x $ y", 3, /“\$” at position 3 is not allowed/], ["x * / y", 5, /expected instead of “\/”/],
    ["alert(1)", 1, /“alert” at position 1 is unknown/], ["constructor", 1, /“constructor” at position 1 is unknown/],
    ["1.2.3", 4, /missing before “.3”/], ["x, y", 2, /“,” at position 2/], ["()", 2, /expected instead of “\)”/], ["sin()", 5, /expected/],
    ["(".repeat(100) + "x", 61, /nested more than 60 deep/], ["x+".repeat(400) + "x", 601, /at most 600/], ["🙂", 1, /“🙂” at position 1/],
  ];
  for (const [text, position, sentence] of cases) {
    assert.throws(() => new Formula(text), (error) => {
      assert.ok(error instanceof FormulaError, `${text}: ${error}`);
      assert.equal(error.position, position, `${text}: ${error.message}`);
      assert.match(error.message, sentence);
      assert.match(error.message, /\.$/);
      return true;
    });
  }
});

test("derivatives up to order three agree with those of a polynomial", () => {
  // (x - 2 y)^3 + x^2 y^2 at (1, 2), by hand.
  const out = derivatives();
  new Formula("(x - 2*y)^3 + x^2*y^2").evaluate(1, 2, 3, out);
  const a = 1 - 4;
  const expected = [
    a ** 3 + 4, 3 * a * a + 8, -6 * a * a + 4, 6 * a + 8, -12 * a + 8, 24 * a + 2, 6, -12 + 8, 24 + 4, -48,
  ];
  for (let i = 0; i < 10; i++) assert.ok(Math.abs(out[i] - expected[i]) < 1e-12, `${i}: ${out[i]} ${expected[i]}`);
});

test("a lower order gives the same numbers as a higher one", () => {
  const text = "exp(-x)*sin(y)/(2 + cos(x*y)) + log(3 + x^2)^1.5 + tan(0.2*x) + sqrt(2 + y)";
  const whole = derivatives();
  new Formula(text).evaluate(0.3, -0.4, 3, whole);
  for (const [order, count] of [[0, 1], [1, 3], [2, 6]]) {
    const part = derivatives();
    new Formula(text).evaluate(0.3, -0.4, order, part);
    assert.deepEqual([...part.slice(0, count)], [...whole.slice(0, count)]);
  }
});

test("each derivative is the difference quotient of the one below it", () => {
  const losses = [lossOf("pits", ""), new Formula("x^3*y + exp(x*y)/(1 + y^2) + abs(x)^3 + tanh(x - y)")];
  const [lower, upper, middle] = [derivatives(), derivatives(), derivatives()];
  // The index of the derivative of entry i along x and along y.
  const along = [[1, 2], [3, 4], [4, 5], [6, 7], [7, 8], [8, 9]];
  const h = 1e-5;
  for (const loss of losses) {
    loss.evaluate(0.31, -0.22, 3, middle);
    for (const axis of [0, 1]) {
      loss.evaluate(0.31 - (axis ? 0 : h), -0.22 - (axis ? h : 0), 3, lower);
      loss.evaluate(0.31 + (axis ? 0 : h), -0.22 + (axis ? h : 0), 3, upper);
      for (let i = 0; i < 6; i++) {
        const exact = middle[along[i][axis]];
        assert.ok(Math.abs((upper[i] - lower[i]) / (2 * h) - exact) < 1e-6 * (1 + Math.abs(exact)), `${i} ${axis}`);
      }
    }
  }
});

test("where a formula is not defined, its value is not a number, and nothing throws", () => {
  assert.ok(Number.isNaN(value("log(x)", -1)));
  assert.ok(Number.isNaN(value("sqrt(x)", -1)));
  assert.ok(!Number.isFinite(value("1/x", 0)));
});
