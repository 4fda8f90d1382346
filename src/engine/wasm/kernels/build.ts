// What a build of the kernels may use beyond its features of WebAssembly; scripts/kernels.mjs sets it.

/**
 * Whether the processor multiplies bytes and adds the products to int32 in one instruction (AVX-VNNI, or Arm's dot product), and the
 * engine uses that for WebAssembly's. Elsewhere the instruction takes three.
 */
export const HAS_DOT: bool = false;
