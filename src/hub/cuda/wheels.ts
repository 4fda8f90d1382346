/** The Python packages that contain XLA and the CUDA libraries, and which of their files are unpacked. */

/**
 * Names and versions: JAX's plugin, the NVIDIA packages that `jax[cuda13]` requires, and their dependencies. This set was tested
 * on an H200, except for the assembler (nvcc, nvvm): there, the system's own of the same CUDA version was used.
 */
export const WHEELS: readonly (readonly [name: string, version: string])[] = [
  ['jax-cuda13-pjrt', '0.11.2'],
  ['nvidia-cublas', '13.1.0.3'],
  ['nvidia-cuda-cupti', '13.0.85'],
  ['nvidia-cuda-nvcc', '13.0.88'],
  ['nvidia-cuda-nvrtc', '13.0.88'],
  ['nvidia-cuda-runtime', '13.0.96'],
  ['nvidia-cudnn-cu13', '9.19.0.56'],
  ['nvidia-cufft', '12.0.0.61'],
  ['nvidia-cusolver', '12.0.4.66'],
  ['nvidia-cusparse', '12.6.3.3'],
  ['nvidia-nccl-cu13', '2.28.9'],
  ['nvidia-nvjitlink', '13.0.88'],
  ['nvidia-nvshmem-cu13', '3.4.5'],
  ['nvidia-nvvm', '13.0.88'],
];

/**
 * Selects shared libraries, the tools that XLA assembles kernels with, the files that those link into kernels, and licenses; no headers,
 * static libraries or Python code.
 */
export function isWanted(path: string): boolean {
  return (
    /^jax_plugins\/xla_cuda\d+\/[^/]+\.so$/.test(path) ||
    /^nvidia\/.*\.so(\.\d+)*$/.test(path) ||
    /^nvidia\/[^/]+\/bin\/(ptxas|nvlink|fatbinary)$/.test(path) ||
    /^nvidia\/.*\/libdevice\/[^/]+\.bc$/.test(path) ||
    /^[^/]+\.dist-info\/(.*\/)?(LICENSE|License|NOTICE)[^/]*$/.test(path)
  );
}
