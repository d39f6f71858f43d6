/** A list of numbers that grows, in one block of memory. */
export class Series {
  private values = new Float64Array(256);
  length = 0;

  push(value: number): void {
    if (this.length === this.values.length) {
      const larger = new Float64Array(2 * this.length);
      larger.set(this.values);
      this.values = larger;
    }
    this.values[this.length++] = value;
  }

  /** The value at an index within the list. */
  at(index: number): number {
    return this.values[index]!;
  }

  get last(): number {
    return this.values[this.length - 1]!;
  }
}
