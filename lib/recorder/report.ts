/**
 * What happens to the recorder's flows, as events.
 *
 * @module
 */
import type { Emitter } from "../event.ts";
import type { RecorderListener } from "./recorder.ts";

/** Emits what the recorder tells; `flows` opened and closed only if asked. `time` says when it happened, if not now. */
export function flowEvents(
  emitter: Emitter,
  flows: boolean,
  time: () => { time?: string } = () => ({}),
): RecorderListener {
  return {
    opened(client, server) {
      if (flows) emitter.emit("flow.open", { ...time(), client, server });
    },
    closed(client, server, reason) {
      if (flows) emitter.emit("flow.close", { ...time(), client, server, reason });
    },
    dropped(client, server, bytes) {
      const reason = `the recorder had to drop ${bytes} bytes that its replica may lack`;
      emitter.emit("flow.unprotected", { ...time(), client, server, reason });
    },
    diverged(client, server, offset) {
      emitter.emit("diverged", { ...time(), client, server, offset });
    },
  };
}
