// The kernels for avx512; CMakeLists.txt gives this file the flags, where the processor is an x86-64.

#include "decoder_kernels.h"

#if defined(__AVX512F__)

#define LANES 16
#define KERNELS_NAME "avx512"
#include "decoder_kernels_impl.h"

namespace draftwood {
const Kernels* avx512_kernels() { return &kKernels; }
}  // namespace draftwood

#else

namespace draftwood {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace draftwood

#endif
