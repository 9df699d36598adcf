/**
 * Timers of all sorts in one heap.
 *
 * @module
 */
import { Deadlines, type Timed } from "./deadlines.ts";

/** Something that has to be looked at from time to time. Times are microseconds. */
export interface Task {
  /** When {@linkcode Task.tick} has something to do, `Infinity` where nothing is to come. */
  nextDeadline(): number;
  /** Time has passed. */
  tick(now: number): void;
}

interface Entry extends Timed {
  readonly task: Task;
}

/** The tasks of a process. */
export class Agenda {
  readonly #deadlines = new Deadlines<Entry>();
  readonly #entries = new Map<Task, Entry>();
  readonly #due: Entry[] = [];

  /** When the next task is due, `Infinity` where none is. */
  get next(): number {
    return this.#deadlines.next;
  }

  /** Takes a task in, or takes note that its deadline has moved. */
  settle(task: Task): void {
    let entry = this.#entries.get(task);
    if (entry === undefined) {
      entry = { task, deadline: Infinity, heapIndex: -1 };
      this.#entries.set(task, entry);
    }
    this.#deadlines.set(entry, task.nextDeadline());
  }

  /** Lets due tasks do what they have to. */
  tick(now: number): void {
    this.#deadlines.due(now, this.#due);
    for (const { task } of this.#due) {
      task.tick(now);
      this.settle(task);
    }
  }
}
