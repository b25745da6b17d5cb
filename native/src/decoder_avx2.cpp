// The kernels for avx2; CMakeLists.txt gives this file the flags, where the processor is an x86-64.

#include "decoder_kernels.h"

#if defined(__AVX2__)

#define LANES 8
#define KERNELS_NAME "avx2"
#include "decoder_kernels_impl.h"

namespace draftwood {
const Kernels* avx2_kernels() { return &kKernels; }
}  // namespace draftwood

#else

namespace draftwood {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace draftwood

#endif
