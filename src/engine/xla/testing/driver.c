/* NVIDIA's driver library without a driver, for tests: built with -DINIT=code, -DVERSION=number, -DGPUS=number. */
#include <string.h>

int cuInit(unsigned flags) { (void)flags; return INIT; }
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuDeviceGetCount(int *count) { *count = GPUS; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
  strncpy(name, device == 0 ? "NVIDIA H200" : "NVIDIA A100", length);
  return 0;
}
