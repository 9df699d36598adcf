/**
 * What a tracker counts over all conversations.
 *
 * @module
 */

/** Totals of a capture. Each of its frames is in exactly one of the first six. */
export class Totals {
  /** TCP segments. */
  segments = 0;
  /** Frames that carry something else. */
  other = 0;
  /** Fragments of IP packets: they are left out. */
  fragments = 0;
  /** Frames of which the capture lacks the headers. */
  cut = 0;
  /** Packets whose lengths contradict each other. */
  malformed = 0;
  /** Frames that the filter refused, or whose link type is not known. */
  filtered = 0;
  /** Frames that the capture itself says were lost when it was made. */
  lost = 0;
  /** Conversations. */
  conversations = 0;
  /** Conversations that are open now. */
  open = 0;
  /** Bytes of payload that were told, each counted once. */
  bytes = 0;
  /** Bytes that the capture lacks. */
  missing_bytes = 0;
  /** Segments of conversations that were over. */
  late = 0;
  /** Conversations that were closed early, to make room for others. */
  evicted = 0;
  /** How often bytes were no longer waited for because too many others were held back. */
  abandoned = 0;
  /** Bytes of memory in which bytes are held back now. */
  held = 0;
  /** The most that it was. */
  held_max = 0;
}
