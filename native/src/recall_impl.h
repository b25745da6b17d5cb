// What the parts of Recall share: the mapped layout, the counters, and the draft in the making.

#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "draftwood/recall.h"
#include "fork.h"
#include "lost_pages.h"
#include "recall_models.h"
#include "recall_quota.h"
#include "recall_ring.h"

namespace draftwood {

inline constexpr std::uint32_t kBlock = 64;  ///< slots that share one namespace

/// The first page of the memory or file. Counters are the only words that change after creation.
struct RecallHeader {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint64_t file_bytes;
  std::uint32_t capacity;
  std::uint32_t order_bits;  ///< a byte an order
  TokenizerPrint print;
  std::uint64_t seed;      ///< keeps where contexts are found a secret; of version 1: the check
  std::uint64_t sections;  ///< a bit for each section that later releases add; none so far
  std::uint64_t check;     ///< of all of the above
  alignas(64) std::uint64_t claimed;  ///< slots that may have been written
  std::uint64_t written;              ///< slots that are complete
  std::uint64_t sequences;            ///< names given out
  std::uint64_t learned;              ///< 1 where the model's words are valid
  std::uint64_t clean;                ///< 1 where the last writer ended well
};

/// Where everything lies in one piece of memory.
struct RecallLayout {
  std::size_t owners, records, heads[recall::kOrders], model, total;
  static RecallLayout of(std::uint32_t capacity);
};

/// The memory: allocated, or a mapped file.
class RecallMemory {
 public:
  RecallMemory() = default;
  ~RecallMemory();
  RecallMemory(const RecallMemory&) = delete;
  RecallMemory& operator=(const RecallMemory&) = delete;
  void allocate(const RecallHeader& header);
  void map(const std::string& path, bool write, std::size_t max_tokens, const TokenizerPrint& print,
           std::uint64_t seed, Pause pause);
  /// Hands all pages to the disk. Throws std::system_error, and RecallError as require_whole().
  void flush(Pause pause = nullptr) const;
  /// Throws RecallError where somebody cut the file, removed it or put another in its place since it
  /// was mapped: what would be written to it is lost, or beyond its end.
  void require_whole() const;
  /// Throws RecallError where a page of the file was gone when it was touched: what was read from it
  /// are zeros, and what was written to it is lost. To be called after the touches; costs nothing.
  void require_pages() const {
    if (lost_.any()) tell_lost();
  }
  /// In a child of fork(): leaves the file and its lock to the parent. The mapping can be read on.
  void leave() noexcept;
  /// The header's fixed words as they were checked: a file may be changed while it is mapped.
  [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::uint32_t version() const noexcept { return version_; }
  [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }
  [[nodiscard]] bool is_file() const noexcept { return !path_.empty(); }
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::uint32_t capacity_ = 0;
  std::uint32_t version_ = 0;
  std::uint64_t seed_ = 0;
  int file_ = -1;
  bool named_ = false;  ///< had a name when it was mapped, unlike a file in memory only
  std::string path_;
  LostPages lost_;

  [[noreturn]] void tell_lost() const;
};

/// Writes the fixed words of a header. Throws std::invalid_argument for a capacity out of range.
void begin_header(RecallHeader& header, std::size_t max_tokens, const TokenizerPrint& print,
                  std::uint64_t seed);
/// CRC-32C of the fixed words before `check`; of a header of version 1 FNV-1a of those before `seed`.
[[nodiscard]] std::uint64_t check_of(const RecallHeader& header) noexcept;

/// A request that may share what it generates, in the list of all of its history. Changed under the
/// writer's lock only.
struct Running {
  Recall::Sequence sequence = 0;
  NamespaceKey name = 0;
  std::atomic<bool> stopped = false;  ///< removed: nothing of it is shared or learned any more
  Running* before = nullptr;
  Running* after = nullptr;
};

class Recall::Impl {
 public:
  RecallMemory memory;
  RecallHeader* header = nullptr;
  recall::Ring ring;
  std::uint64_t* owners = nullptr;  ///< [capacity / kBlock]: the namespace of each block
  std::uint32_t* learned = nullptr;
  bool writable = true;
  bool clean = true;  ///< whether the writer before this one ended well
  ForkSafe<std::mutex> writer;
  Running* running = nullptr;  ///< the newest
  bool removing = false;       ///< a removal is under way; under the writer's lock, as is the list
  recall::Models models;
  recall::Quota quota;
  ForkHook fork{ForkHook::Kind::kLock, this, [](void*) {}, leave_in_child};

  void place();
  /// No namespace holds more than so many slots from now on, in whole blocks; 0: any number. Throws
  /// std::invalid_argument for less than a part takes.
  void limit(std::size_t slots);
  /// Slots that a reader leaves alone because a writer may be about to overwrite them.
  [[nodiscard]] std::uint32_t margin() const noexcept;
  /// Whether nothing was overwritten that a reader may have read that saw `written` slots.
  [[nodiscard]] bool intact(std::uint64_t written) const noexcept;
  [[nodiscard]] std::uint32_t slot_of(std::uint64_t position) const noexcept {
    return static_cast<std::uint32_t>(position % ring.capacity);
  }
  /// Where the hashes of a namespace's contexts begin.
  [[nodiscard]] std::uint32_t salt(NamespaceKey name) const noexcept;
  Sequence begin() const noexcept;
  Span add(Sequence sequence, NamespaceKey name, std::span<const Token> context,
           std::span<const Token> tokens);
  /// Removes a sequence, or (sequence 0) a namespace; returns how many tokens were held.
  std::size_t remove(Sequence sequence, NamespaceKey name, Pause pause);
  void enter(Running& request);
  void leave(Running& request);
  void store_model() const;

 private:
  /// A child may read a file on; writing it is the parent's. Memory is the child's own copy.
  static void leave_in_child(void* object, ForkHook::Side side) {
    auto& self = *static_cast<Impl*>(object);
    if (side == ForkHook::Side::kParent) return;
    self.removing = false;  // whoever removed is not in the child
    if (!self.memory.is_file()) return;
    self.writable = false;
    self.memory.leave();
  }
  void claim(std::uint64_t upto) const noexcept;
  /// The owner of the block that begins at `position`, which is written next; null: nobody's yet.
  [[nodiscard]] const NamespaceKey* owner_before(std::uint64_t position) const noexcept {
    return position < ring.capacity ? nullptr : &owners[slot_of(position) / kBlock];
  }
  /// Blanks before a part of the namespace: up to the end of a block that is another's.
  [[nodiscard]] std::size_t padding(NamespaceKey name) const noexcept;
  /// How many of the next `wanted` slots the namespace's quota leaves it, blanks included.
  [[nodiscard]] std::size_t room(NamespaceKey name, std::size_t wanted) const;
  void add_part(Sequence sequence, NamespaceKey name, std::span<const Token> text,
                std::size_t known);
};

}  // namespace draftwood
