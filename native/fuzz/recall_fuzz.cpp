// Any bytes at all as a Recall file: an error with a name, or some draft.
//
// With clang: -fsanitize=fuzzer,address,undefined and this file is a libFuzzer target. With any
// compiler: native/tests/recall_file_test.cpp drives the same entry with its own mutations.

#include "recall_fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../src/recall_impl.h"
#include "draftwood/recall.h"

namespace draftwood::recall {
namespace {

/// A file in memory that has a path.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::byte> bytes) : file_(::memfd_create("recall", 0)) {
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t put = ::write(file_, bytes.data() + done, bytes.size() - done);
      if (put <= 0) std::abort();
      done += static_cast<std::size_t>(put);
    }
  }
  ~MemoryFile() { ::close(file_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(file_); }

 private:
  int file_;
};

std::shared_ptr<Recall> open(const MemoryFile& file, bool write) {
  try {
    return Recall::open(file.path(), write, Recall::kLeastTokens, {});
  } catch (const RecallError&) {
    return nullptr;
  }
}

/// Drafts behind contexts that are in the file, or seem to be.
void draft(const std::shared_ptr<Recall>& recall) {
  const Ring& ring = recall->impl().ring;
  const std::uint64_t* owners = recall->impl().owners;
  for (std::uint32_t slot = 0; slot + 8 < ring.capacity; slot += ring.capacity / 4) {
    std::vector<Token> context;
    for (std::uint32_t i = slot; i < slot + 8; ++i) {
      context.push_back(ring.records[i].token & 0x7FFFFFFF);
    }
    RecallRequest stream(recall, context, owners[slot / kBlock], RecallPolicy{false, 0.0F, 4});
    const RecallDraft& drawn = stream.propose({32, 32});
    for (std::size_t i = 0; i < drawn.tokens.size(); ++i) {
      if (drawn.tokens[i] < 0 || drawn.parents[i] >= static_cast<std::int32_t>(i)) std::abort();
    }
    stream.observe(context);
    stream.propose({32, 4});
  }
}

}  // namespace

bool draft_from(std::span<const std::byte> bytes) {
  const MemoryFile file(bytes);
  const std::shared_ptr<Recall> recall = open(file, false);
  if (recall) draft(recall);
  return recall != nullptr;
}

bool write_to(std::span<const std::byte> bytes) {
  const MemoryFile file(bytes);
  const std::shared_ptr<Recall> recall = open(file, true);
  if (!recall) return false;
  draft(recall);
  const std::vector<Token> text(200, 7);
  const Recall::Sequence sequence = recall->begin();
  recall->add(sequence, 1, {}, text);
  draft(recall);
  recall->remove(sequence);
  recall->remove_namespace(recall->impl().owners[0]);
  return true;
}

}  // namespace draftwood::recall

namespace {

/// A header of version 1: its check stands where version 2 has the seed.
void make_first(draftwood::RecallHeader& header) {
  header.version = 1;
  header.sections = header.check = 0;
  header.seed = draftwood::check_of(header);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using draftwood::RecallHeader;
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  draftwood::recall::draft_from(file);
  if (size < sizeof(RecallHeader)) return 0;
  // A good header lets the mutation reach the counters and what stands behind them.
  RecallHeader header{};
  std::memcpy(&header, data, sizeof(header));
  draftwood::begin_header(header, draftwood::Recall::kLeastTokens + header.print[0], header.print,
                          header.seed);
  std::vector<std::byte> sealed(header.file_bytes);
  std::memcpy(sealed.data(), data, std::min<std::size_t>(size, sealed.size()));
  for (const bool first : {false, true}) {
    if (first) make_first(header);
    std::memcpy(sealed.data(), &header, sizeof(header));
    const bool opens = draftwood::recall::draft_from(sealed);
    // Nothing but counters that contradict each other is left to refuse.
    if (opens != (header.written <= header.claimed)) std::abort();
    draftwood::recall::write_to(sealed);
  }
  return 0;
}
