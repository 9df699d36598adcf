/**
 * What any command says of itself and of the processes of its host.
 *
 * @module
 */
import { count, flag, text } from "../field.ts";
import { type Descriptions, droppable, essential } from "./description.ts";

/** Fields of `warning`. */
export interface WarningFields {
  /** What is wrong, for a person. */
  message: string;
}

/** Fields of `process.exit`. */
export interface ProcessExitFields {
  /** Its number. */
  pid: number;
  /** Its name, cut to 15 bytes. */
  name: string;
  /** How it ended: `status 1`, `signal 9`, `unknown`. */
  ended: string;
  /** Whether it is a process that was named as a main process of the service. */
  main: boolean;
  /** Whether it ended against its will. */
  crashed: boolean;
}

/** The events of any command and the fields of each. */
export interface CommandEvents {
  /** A long-running command is in place and works from now on. */
  "started": object;
  /** Counters of the command. */
  "stats": object;
  /** Something is not as it should be, and the command goes on. */
  "warning": WarningFields;
  /** A process of the service has ended. */
  "process.exit": ProcessExitFields;
}

/** The events of any command and their schemas. */
export const commandEvents: Descriptions<CommandEvents> = {
  "started": essential("A long-running command is in place and works from now on", {}),
  "stats": droppable("Counters of the command; which ones is its own affair", {}),
  "warning": essential("Something is not as it should be, and the command goes on", {
    message: text("What is wrong, for a person"),
  }),
  "process.exit": essential("A process of the service has ended", {
    pid: count("Its number"),
    name: text("Its name, cut to 15 bytes"),
    ended: text("How it ended: status 1, signal 9, unknown"),
    main: flag("Whether it was named as a main process of the service"),
    crashed: flag("Whether it ended against its will"),
  }),
};
