/**
 * Which of many timers is due next: a binary heap, so that a change costs the logarithm of their
 * number.
 *
 * @module
 */

/** Something with one timer. {@linkcode Deadlines} alone writes the fields. */
export interface Timed {
  /** When it is due; `Infinity` for never. */
  deadline: number;
  /** Its place in the heap, -1 where it is in none. */
  heapIndex: number;
}

/** The timers of all `T`. */
export class Deadlines<T extends Timed> {
  readonly #heap: T[] = [];

  /** When the next one is due, `Infinity` where none is. */
  get next(): number {
    return this.#heap[0]?.deadline ?? Infinity;
  }

  /** Adds `item`, or moves it to another time. */
  set(item: T, deadline: number): void {
    if (item.heapIndex < 0) {
      item.heapIndex = this.#heap.length;
      this.#heap.push(item);
    } else if (item.deadline === deadline) {
      return;
    }
    item.deadline = deadline;
    this.#sink(this.#rise(item));
  }

  /** Takes `item` out, where it is in. */
  delete(item: T): void {
    const at = item.heapIndex;
    if (at < 0) return;
    item.heapIndex = -1;
    const last = this.#heap.pop()!;
    if (last === item) return;
    this.#put(last, at);
    this.#sink(this.#rise(last));
  }

  /** Puts all that are due at `now` into `due`, which is emptied first. They stay in the heap. */
  due(now: number, due: T[]): void {
    due.length = 0;
    if (this.next > now) return;
    due.push(this.#heap[0]!);
    for (let seen = 0; seen < due.length; seen++) {
      const child = 2 * due[seen]!.heapIndex + 1;
      for (const item of [this.#heap[child], this.#heap[child + 1]]) {
        if (item !== undefined && item.deadline <= now) due.push(item);
      }
    }
  }

  #rise(item: T): T {
    while (item.heapIndex > 0) {
      const parent = this.#heap[item.heapIndex - 1 >> 1]!;
      if (parent.deadline <= item.deadline) break;
      this.#swap(parent, item);
    }
    return item;
  }

  #sink(item: T): void {
    while (true) {
      const left = this.#heap[2 * item.heapIndex + 1];
      const right = this.#heap[2 * item.heapIndex + 2];
      const least = right !== undefined && right.deadline < left!.deadline ? right : left;
      if (least === undefined || least.deadline >= item.deadline) return;
      this.#swap(item, least);
    }
  }

  #swap(a: T, b: T): void {
    const at = a.heapIndex;
    this.#put(a, b.heapIndex);
    this.#put(b, at);
  }

  #put(item: T, at: number): void {
    this.#heap[at] = item;
    item.heapIndex = at;
  }
}
