/**
 * The codes of kernels in schedules, and of the instructions of the `map` kernel. Plain enums, since the AssemblyScript kernels import this
 * file too.
 */

/** The codes of the kernels. */
export enum Kernel {
  map = 0,
  reduce = 1,
  cumulative = 2,
  matmul = 3,
  quantize = 4,
  packedMatmul = 5,
  rowsMatmul = 6,
  rmsNorm = 7,
  softmax = 8,
  gather = 9,
  gatherPacked = 10,
  gatherElements = 11,
  scatterElements = 12,
  topK = 13,
  recurrence = 14,
  scan = 15,
  convolution = 16,
  attention = 17,
  expertsUp = 18,
  expertsDown = 19,
  loadRows = 20,
  storeRows = 21,
  loadEntries = 22,
  appendEntries = 23,
  maskedAttention = 24,
  channelSystem = 25,
  expertLists = 26,
  packedExpertsUp = 27,
  packedExpertsDown = 28,
}

/** The entries of a page of a growing state. */
export const PAGE_ENTRIES = 64;

/** The types of elements in memory. */
export enum Element {
  float32 = 0,
  int64 = 1,
  int32 = 2,
  bool = 3,
  bfloat16 = 4,
  float16 = 5,
  int8 = 6,
  uint8 = 7,
}

/** The kinds of reductions. */
export enum Reduction {
  sum = 0,
  max = 1,
}

/**
 * Instructions of `map`. A register holds a block of float32 numbers, int64 numbers, or booleans (all bits set or none); the last letter is the
 * type that an instruction operates on.
 */
export enum Instruction {
  load = 0,
  store = 1,
  constantF = 2,
  constantI = 3,
  constantB = 4,

  negateF = 10,
  expF = 11,
  logF = 12,
  sqrtF = 13,
  sinF = 14,
  cosF = 15,
  tanhF = 16,
  sigmoidF = 17,
  softplusF = 18,
  absoluteF = 19,
  erfF = 20,
  siluF = 21,

  addF = 30,
  subtractF = 31,
  multiplyF = 32,
  divideF = 33,
  powerF = 34,
  maximumF = 35,
  minimumF = 36,
  lessF = 37,
  lessOrEqualF = 38,
  equalF = 39,
  whereF = 40,

  addI = 50,
  subtractI = 51,
  multiplyI = 52,
  divideI = 53,
  maximumI = 54,
  minimumI = 55,
  lessI = 56,
  lessOrEqualI = 57,
  equalI = 58,
  whereI = 59,
  negateI = 60,
  absoluteI = 61,
  powerI = 62,

  andB = 70,
  orB = 71,
  notB = 72,
  equalB = 73,
  whereB = 74,

  castFI = 80,
  castFB = 81,
  castIF = 82,
  castIB = 83,
  castBF = 84,
  castBI = 85,
}
