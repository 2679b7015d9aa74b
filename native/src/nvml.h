/* NVML's answers about memory and processes. */
#ifndef TESSERA_NVML_H
#define TESSERA_NVML_H

/* As `stand_in_for_symbol`, for libnvidia-ml. */
void *stand_in_for_nvml(const char *symbol, void *found);

#endif
