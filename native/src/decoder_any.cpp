// The kernels for vectors of four floats, which every processor of 64 bits has.

#define LANES 4
#define KERNELS_NAME "any"
#include "decoder_kernels_impl.h"

namespace draftwood {
const Kernels* any_kernels() { return &kKernels; }
}  // namespace draftwood
