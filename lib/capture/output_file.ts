/**
 * One capture file that is being written.
 *
 * @module
 */
import { join } from "node:path";

/**
 * A capture file, readable by its owner alone. It holds whole blocks only, save for the moment of a write: a process
 * that is killed at that very moment may leave a last block that is cut off, which readers report and pass over.
 */
export class OutputFile {
  /** Where it is. */
  readonly path: string;
  /** How many bytes it has. */
  size = 0;
  /** How many frames it has. */
  frames = 0;
  readonly #file: Deno.FsFile;

  private constructor(path: string, file: Deno.FsFile) {
    this.path = path;
    this.#file = file;
  }

  /** Makes a new file that begins with `header`; leaves none where that fails. */
  static async create(directory: string, name: string, header: Uint8Array): Promise<OutputFile> {
    const path = join(directory, name);
    // Appending, so that after a failed write the next one begins where the file was cut.
    const options = { append: true, createNew: true, mode: 0o600 };
    const file = new OutputFile(path, await Deno.open(path, options));
    try {
      await file.append(header, 0);
    } catch (error) {
      await file.discard();
      throw error;
    }
    return file;
  }

  /** Appends `blocks`, which hold so many frames. Where that fails, the file ends as it did before. */
  async append(blocks: Uint8Array, frames: number): Promise<void> {
    try {
      let at = 0;
      while (at < blocks.length) at += await this.#file.write(blocks.subarray(at));
    } catch (error) {
      await this.#file.truncate(this.size).catch(() => {});
      throw error;
    }
    this.size += blocks.length;
    this.frames += frames;
  }

  /** Closes the file. */
  close(): void {
    this.#file.close();
  }

  /** Closes the file and removes it. */
  async discard(): Promise<void> {
    this.close();
    await Deno.remove(this.path).catch(() => {});
  }
}
