/** The Python packages that XLA and the CUDA libraries come in, and what of them is unpacked. */

/** Names and versions that were tried together: JAX's plugin, and NVIDIA's packages that `jax[cuda13]` asks for with what those need. */
export const WHEELS: readonly (readonly [name: string, version: string])[] = [
  ['jax-cuda13-pjrt', '0.11.2'],
  ['nvidia-cublas', '13.1.1.3'],
  ['nvidia-cuda-crt', '13.0.88'],
  ['nvidia-cuda-cupti', '13.0.85'],
  ['nvidia-cuda-nvcc', '13.0.88'],
  ['nvidia-cuda-nvrtc', '13.0.88'],
  ['nvidia-cuda-runtime', '13.0.96'],
  ['nvidia-cudnn-cu13', '9.20.0.48'],
  ['nvidia-cufft', '12.0.0.61'],
  ['nvidia-cusolver', '12.0.4.66'],
  ['nvidia-cusparse', '12.6.3.3'],
  ['nvidia-nccl-cu13', '2.29.7'],
  ['nvidia-nvjitlink', '13.0.88'],
  ['nvidia-nvshmem-cu13', '3.4.5'],
  ['nvidia-nvvm', '13.0.88'],
];

/**
 * Shared libraries, the tools that XLA assembles kernels with, what it links into them, and licenses: no headers, no static libraries, no
 * Python.
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
