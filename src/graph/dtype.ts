/** The table of element types: their sizes, JavaScript arrays, and names in other formats. */
import { float32ToBfloat16, float32ToFloat16 } from './half.js';

/**
 * By the names of ONNX Runtime and PyTorch: the bytes of an element, the JavaScript array (float16 and bfloat16 as 16-bit patterns, see
 * `half.ts`; bool as 0 and 1), ONNX's number of the type (`TensorProto.DataType` in onnx.proto), and the names in safetensors and StableHLO.
 */
export const DTYPES = {
  float32: { bytes: 4, array: Float32Array, onnx: 1, safetensors: 'F32', stablehlo: 'f32' },
  float16: { bytes: 2, array: Uint16Array, onnx: 10, safetensors: 'F16', stablehlo: 'f16' },
  bfloat16: { bytes: 2, array: Uint16Array, onnx: 16, safetensors: 'BF16', stablehlo: 'bf16' },
  int64: { bytes: 8, array: BigInt64Array, onnx: 7, safetensors: 'I64', stablehlo: 'i64' },
  int32: { bytes: 4, array: Int32Array, onnx: 6, safetensors: 'I32', stablehlo: 'i32' },
  int8: { bytes: 1, array: Int8Array, onnx: 3, safetensors: 'I8', stablehlo: 'i8' },
  uint8: { bytes: 1, array: Uint8Array, onnx: 2, safetensors: 'U8', stablehlo: 'ui8' },
  bool: { bytes: 1, array: Uint8Array, onnx: 9, safetensors: 'BOOL', stablehlo: 'i1' },
} as const;

/** The dtype of a tensor's elements, by its name in `DTYPES`. */
export type DType = keyof typeof DTYPES;

/** An array that holds a tensor's elements. */
export type TensorData = (typeof DTYPES)[DType]['array']['prototype'];

/** The dtype with this name in safetensors files, if there is one. */
export function fromSafetensors(name: string): DType | undefined {
  return (Object.keys(DTYPES) as DType[]).find((dtype) => DTYPES[dtype].safetensors === name);
}

/** A number as the data of a scalar tensor, rounded to nearest. */
export function literal(value: number, dtype: DType): TensorData {
  if (dtype === 'int64') return BigInt64Array.of(BigInt(value));
  if (dtype === 'float16') return float32ToFloat16(Float32Array.of(value));
  if (dtype === 'bfloat16') return float32ToBfloat16(Float32Array.of(value));
  return DTYPES[dtype].array.of(value);
}
