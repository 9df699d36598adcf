/**
 * The numbers of the capture file formats: pcapng (draft-ietf-opsawg-pcapng) and pcap (draft-ietf-opsawg-pcap).
 *
 * @module
 */

/** Block types of pcapng. */
export const BlockType = {
  /** Section Header Block; the same number in either byte order. */
  SECTION_HEADER: 0x0a0d0d0a,
  /** Interface Description Block. */
  INTERFACE_DESCRIPTION: 1,
  /** Packet Block, which is obsolete. */
  PACKET: 2,
  /** Simple Packet Block. */
  SIMPLE_PACKET: 3,
  /** Interface Statistics Block. */
  INTERFACE_STATISTICS: 5,
  /** Enhanced Packet Block. */
  ENHANCED_PACKET: 6,
} as const;

/** Option codes; their meaning depends on the block, which the name begins with. */
export const OptionCode = {
  /** The last option of a block. */
  END: 0,
  /** A comment, in any block. */
  COMMENT: 1,
  SHB_HARDWARE: 2,
  SHB_OS: 3,
  SHB_USERAPPL: 4,
  IF_NAME: 2,
  IF_TSRESOL: 9,
  IF_FILTER: 11,
  IF_OS: 12,
  IF_TSOFFSET: 14,
  ISB_STARTTIME: 2,
  ISB_ENDTIME: 3,
  ISB_IFRECV: 4,
  ISB_IFDROP: 5,
  ISB_FILTERACCEPT: 6,
  ISB_OSDROP: 7,
  ISB_USRDELIV: 8,
} as const;

/** The Byte-Order Magic of a section, as a reader of the same byte order sees it. */
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;

/** Type and total length before a block's body, and the total length again behind it. */
export const BLOCK_OVERHEAD = 12;

/** What an Enhanced Packet Block has between its length and the frame. */
export const ENHANCED_PACKET_HEADER = 20;

/**
 * The largest block or record that is believed, in bytes. The largest frame that a Linux host captures has 512 KiB
 * (BIG TCP); a larger block is a comment or a table of names, or a broken length.
 */
export const MAX_BLOCK: number = 16 << 20;
