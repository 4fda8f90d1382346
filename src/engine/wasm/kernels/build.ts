// What a build of the kernels may use beyond its features of WebAssembly; scripts/kernels.mjs sets it.

/**
 * Whether the processor multiplies bytes and adds the products to int32 in one instruction (AVX-VNNI, or Arm's dot product), and the
 * engine compiles the WebAssembly instruction to it. Elsewhere the instruction becomes three.
 */
export const HAS_DOT: bool = false;
