#include "draftwood/recall.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#include "recall_impl.h"
#include "recall_marks.h"
#include "recall_remove.h"

namespace draftwood {

using recall::kBlank;
using recall::peek;
using recall::poke;

namespace {

constexpr const char* kReadOnly =
    "this history is for reading only here: opened so, or by the parent of this process";
constexpr std::uint32_t kMarks = 2;    ///< at the beginning of a part: the sequence's name
constexpr std::uint32_t kOverlap = 8;  ///< tokens of context that are repeated before a part
constexpr std::uint32_t kChunk = 64;   ///< slots that are claimed at a time
constexpr std::uint64_t kNames = std::uint64_t{1} << 60;

}  // namespace

Recall::Recall(std::size_t max_tokens, std::uint64_t seed, std::size_t quota)
    : impl_(std::make_unique<Impl>()) {
  RecallHeader header{};
  begin_header(header, max_tokens, TokenizerPrint{}, seed);
  impl_->memory.allocate(header);
  impl_->place();
  impl_->limit(quota);
}

Recall::Recall(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

std::unique_ptr<Recall> Recall::open(const std::string& path, bool write, std::size_t max_tokens,
                                     const TokenizerPrint& print, std::uint64_t seed,
                                     std::size_t quota, Pause pause) {
  auto impl = std::make_unique<Impl>();
  impl->memory.map(path, write, max_tokens, print, seed, pause);
  impl->place();
  impl->writable = write;
  impl->clean = peek(impl->header->clean) == 1;
  if (write) {
    // What a writer that died had claimed and not completed is not there.
    poke(impl->header->claimed, impl->header->written);
    poke(impl->header->clean, std::uint64_t{0});
    impl->limit(quota);
  }
  if (peek(impl->header->learned) == 1) impl->models.common().restore(impl->learned);
  impl->memory.require_pages();
  return std::unique_ptr<Recall>(new Recall(std::move(impl)));
}

Recall::~Recall() {
  try {
    flush();
    if (impl_->writable && impl_->memory.is_file()) {
      poke(impl_->header->clean, std::uint64_t{1});  // on disk after all that it speaks of
      impl_->memory.flush();
    }
  } catch (const std::system_error&) {  // the disk's: what was not flushed is not promised
  } catch (const RecallError&) {        // cut or replaced: there is nothing to end well
  }
}

Recall::Sequence Recall::begin() {
  if (!impl_->writable) throw std::logic_error(kReadOnly);
  impl_->memory.require_whole();
  const std::lock_guard lock(impl_->writer);
  return impl_->begin();
}

Recall::Span Recall::add(Sequence sequence, NamespaceKey name, std::span<const Token> context,
                         std::span<const Token> tokens) {
  if (!impl_->writable) throw std::logic_error(kReadOnly);
  if (std::ranges::any_of(tokens, [](Token token) { return token < 0; })) {
    throw std::invalid_argument("token ids are 0 or greater");
  }
  impl_->memory.require_whole();
  const std::lock_guard lock(impl_->writer);
  const Span span = impl_->add(sequence, name, context, tokens);
  impl_->memory.require_pages();
  return span;
}

std::size_t Recall::remove(Sequence sequence, Pause pause) {
  if (!impl_->writable) throw std::logic_error(kReadOnly);
  impl_->memory.require_whole();
  const bool given = sequence != 0 && sequence <= peek(impl_->header->sequences);
  return given ? impl_->remove(sequence, 0, pause) : 0;
}

std::size_t Recall::remove_namespace(NamespaceKey name, Pause pause) {
  if (!impl_->writable) throw std::logic_error(kReadOnly);
  impl_->memory.require_whole();
  return impl_->remove(0, name, pause);
}

void Recall::flush(Pause pause) {
  if (!impl_->writable) return;
  impl_->memory.require_whole();
  {
    const std::lock_guard lock(impl_->writer);
    impl_->store_model();
  }
  impl_->memory.flush(pause);
}

std::size_t Recall::capacity() const noexcept {
  return impl_->ring.capacity;
}
std::uint64_t Recall::written() const noexcept {
  return peek(impl_->header->written);
}
std::size_t Recall::held(NamespaceKey name) const noexcept {
  const std::uint64_t slots = std::min<std::uint64_t>(written(), capacity());
  const std::span<const std::uint64_t> blocks(impl_->owners, (slots + kBlock - 1) / kBlock);
  std::size_t count = 0;
  for (const std::uint64_t& owner : blocks) count += peek(owner) == name ? kBlock : 0;
  return count;
}
std::size_t Recall::nbytes() const noexcept {
  const std::lock_guard lock(impl_->writer);
  return impl_->memory.size() + impl_->models.nbytes() + impl_->quota.nbytes();
}
std::size_t Recall::part() const noexcept {
  return impl_->margin() - kMarks - kOverlap;
}
bool Recall::writable() const noexcept {
  return impl_->writable;
}
bool Recall::clean() const noexcept {
  return impl_->clean;
}

void Recall::Impl::place() {
  header = reinterpret_cast<RecallHeader*>(memory.data());
  ring.capacity = memory.capacity();
  const RecallLayout layout = RecallLayout::of(ring.capacity);
  ring.bits = recall::Ring::head_bits(ring.capacity);
  ring.records = reinterpret_cast<recall::Record*>(memory.data() + layout.records);
  for (std::size_t k = 0; k < recall::kOrders; ++k) {
    ring.heads[k] = reinterpret_cast<std::uint32_t*>(memory.data() + layout.heads[k]);
  }
  owners = reinterpret_cast<std::uint64_t*>(memory.data() + layout.owners);
  learned = reinterpret_cast<std::uint32_t*>(memory.data() + layout.model);
  if (memory.version() == 1) models.join();
}

void Recall::Impl::limit(std::size_t slots) {
  if (slots != 0 && slots < Recall::kLeastTokens) {
    throw std::invalid_argument("quota is " + std::to_string(slots) + "; use " +
                                std::to_string(Recall::kLeastTokens) + " or more, or 0 for none");
  }
  const std::uint64_t held = std::min<std::uint64_t>(peek(header->written), ring.capacity);
  quota.begin(static_cast<std::uint32_t>(std::min<std::size_t>(slots, ring.capacity) / kBlock),
              {owners, (held + kBlock - 1) / kBlock});
}

std::size_t Recall::Impl::padding(NamespaceKey name) const noexcept {
  const std::uint64_t first = header->written;
  const bool others = first % kBlock != 0 && peek(owners[slot_of(first) / kBlock]) != name;
  return others ? kBlock - first % kBlock : 0;
}

std::size_t Recall::Impl::room(NamespaceKey name, std::size_t wanted) const {
  const std::uint64_t first = header->written;
  const std::size_t begun = (kBlock - first % kBlock) % kBlock;  // of a block that is taken
  if (wanted <= begun) return wanted;
  const std::size_t blocks = (wanted - begun + kBlock - 1) / kBlock;
  const std::size_t allowed = quota.allowed(
      name, blocks, [&](std::size_t i) { return owner_before(first + begun + i * kBlock); });
  return std::min(wanted, begun + allowed * kBlock);
}

std::uint32_t Recall::Impl::margin() const noexcept {
  return std::clamp(ring.capacity / 16, 2 * kChunk, 65536U);
}

bool Recall::Impl::intact(std::uint64_t written) const noexcept {
  recall::fence(std::memory_order_acquire);
  // A block gets its new owner before its last slots are overwritten.
  return peek(header->claimed) - written <= margin() - kBlock;
}

void Recall::Impl::store_model() const {
  std::uint32_t* word = learned;
  for (const std::uint32_t value : models.common().words()) poke(*word++, value);
  poke(header->learned, std::uint64_t{1});
}

std::uint32_t Recall::Impl::salt(NamespaceKey name) const noexcept {
  if (memory.version() == 1) return static_cast<std::uint32_t>(name ^ (name >> 32));
  std::uint64_t x = memory.seed() ^ name;
  x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDU;
  x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53U;
  return static_cast<std::uint32_t>(x >> 32);
}

Recall::Sequence Recall::Impl::begin() const noexcept {
  const std::uint64_t next = header->sequences % kNames + 1;
  poke(header->sequences, next);
  return next;
}

void Recall::Impl::enter(Running& request) {
  const std::lock_guard lock(writer);
  request.after = running;
  if (running != nullptr) running->before = &request;
  running = &request;
}

void Recall::Impl::leave(Running& request) {
  const std::lock_guard lock(writer);
  if (request.before == nullptr && running != &request) return;  // it left before
  (request.before != nullptr ? request.before->after : running) = request.after;
  if (request.after != nullptr) request.after->before = request.before;
  request.before = request.after = nullptr;
}

std::size_t Recall::Impl::remove(Sequence sequence, NamespaceKey name, Pause pause) {
  using namespace std::chrono_literals;
  for (;; std::this_thread::sleep_for(1ms)) {
    const std::lock_guard lock(writer);
    if (removing) continue;
    removing = true;
    for (Running* each = running; each != nullptr; each = each->after) {
      if (sequence == 0 ? each->name == name : each->sequence == sequence) each->stopped = true;
    }
    break;
  }
  recall::Removal removal(*this, {sequence, name});
  try {
    while (removal.step()) {
      std::this_thread::yield();  // whoever waits to write does so now
      if (pause != nullptr) pause();
    }
  } catch (...) {
    const std::lock_guard lock(writer);
    removing = false;
    throw;
  }
  if (sequence == 0) {
    models.forget(name);
  } else if (removal.owner()) {
    models.forget(*removal.owner());
  } else {
    models.forget_all();  // nothing of it is held that would tell its namespace
  }
  const std::lock_guard lock(writer);
  if (peek(header->learned) == 1) store_model();
  removing = false;
  memory.require_pages();
  return removal.removed();
}

/// Says which slots are about to change, before the first of them does.
void Recall::Impl::claim(std::uint64_t upto) const noexcept {
  poke(header->claimed, upto);
  recall::fence(std::memory_order_release);
}

Recall::Span Recall::Impl::add(Sequence sequence, NamespaceKey name, std::span<const Token> context,
                               std::span<const Token> tokens) {
  const std::uint64_t first = header->written;
  std::vector<Token> text(
      context.end() - static_cast<std::ptrdiff_t>(std::min<std::size_t>(context.size(), kOverlap)),
      context.end());
  const std::size_t known = text.size();
  text.insert(text.end(), tokens.begin(), tokens.end());
  // A part is no longer than the margin: where the ring has overwritten its marks, and with them
  // its name, no reader comes near the rest of it.
  const std::size_t most = margin() - kMarks - kOverlap;
  std::size_t done = known;
  do {
    const std::size_t before = std::min<std::size_t>(done, kOverlap);
    const std::size_t extra = padding(name) + kMarks + before;  // slots beside the part's own
    const std::size_t wanted = std::min(text.size() - done, most);
    const std::size_t allowed = room(name, extra + wanted);
    if (allowed < extra + std::min<std::size_t>(wanted, 1)) break;  // more than its quota
    const std::size_t upto = done + std::min(wanted, allowed - extra);
    const std::span<const Token> part(text.data(), upto);
    add_part(sequence, name, part.subspan(done - before), before);
    done = upto;
  } while (done < text.size());
  return {first, header->written};
}

/// Writes `text`, the first `known` tokens of which no chain will name.
void Recall::Impl::add_part(Sequence sequence, NamespaceKey name, std::span<const Token> text,
                            std::size_t known) {
  const std::uint64_t first = header->written;
  std::uint32_t slot = slot_of(first);
  const std::size_t blanks = padding(name);
  const std::size_t total = blanks + kMarks + text.size();
  const std::uint32_t start = salt(name);
  for (std::size_t done = 0; done < total;) {
    const std::size_t upto = std::min<std::size_t>(total, done + kChunk);
    claim(first + upto);
    for (; done < upto; ++done, slot = ring.after(slot)) {
      if (slot % kBlock == 0) {
        quota.take(name, owner_before(first + done));
        poke(owners[slot / kBlock], name);
      }
      if (done < blanks) {
        ring.mark(slot, kBlank);
      } else if (done < blanks + kMarks) {
        ring.mark(slot,
                  done == blanks ? recall::first_mark(sequence) : recall::second_mark(sequence));
      } else if (const std::size_t i = done - blanks - kMarks; i < known) {
        ring.mark(slot, text[i]);
      } else {
        ring.put(slot, text[i], recall::hash_context(text.first(i), start),
                 static_cast<std::uint32_t>(std::min<std::size_t>(i, recall::kLongest)));
      }
    }
    recall::publish(header->written, first + upto);
  }
}

}  // namespace draftwood
