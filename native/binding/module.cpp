// The Python extension `draftwood._native`.

#include <nanobind/nanobind.h>

#include "unlocked.h"

namespace nb = nanobind;

void bind_decoder(nb::module_& module);
void bind_draft(nb::module_& module);
void bind_history(nb::module_& module);
void bind_recall(nb::module_& module);
void bind_sequences(nb::module_& module);
void bind_suffix_tree(nb::module_& module);

NB_MODULE(_native, module) {
  module.doc() = "Indexes over token sequences, in C++. Use them through draftwood.index.";
  draftwood::bind_exit(module);
  bind_decoder(module);
  bind_draft(module);
  bind_history(module);
  bind_suffix_tree(module);
  bind_recall(module);
  bind_sequences(module);
}
