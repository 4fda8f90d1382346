// Constants of a build of the kernels, which scripts/kernels.mjs sets.

/**
 * Whether the processor multiplies bytes and adds the products to int32 in one instruction (AVX-VNNI, or Arm's dot product), and the
 * engine compiles the WebAssembly instruction to it. Elsewhere the instruction becomes three.
 */
export const HAS_DOT: bool = false;
