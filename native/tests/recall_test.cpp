// Recall under threads and sanitizers: every draft is a true continuation of what was said,
// whatever writes and removes meanwhile. What drafts hold exactly, the Python twin says.

#include "draftwood/recall.h"

#include "../src/recall_impl.h"
#include "../src/recall_remove.h"
#include "expect.h"

#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

/// Bytes that operator new has given out and not got back. In front of each piece stands its size.
std::atomic<std::size_t> held_bytes{0};
constexpr std::size_t kFront = alignof(std::max_align_t);

}  // namespace

void* operator new(std::size_t size) {
  void* const piece = std::malloc(kFront + size);
  if (piece == nullptr) throw std::bad_alloc();
  *static_cast<std::size_t*>(piece) = size;
  held_bytes += size;
  return static_cast<std::byte*>(piece) + kFront;
}

void operator delete(void* given) noexcept {
  if (given == nullptr) return;
  void* const piece = static_cast<std::byte*>(given) - kFront;
  held_bytes -= *static_cast<std::size_t*>(piece);
  std::free(piece);
}

void operator delete(void* given, std::size_t) noexcept {
  operator delete(given);
}

namespace {

using namespace draftwood;

constexpr Token kModulus = 1000;

/// `count` numbers upwards from `start`, modulo 1000.
std::vector<Token> run(Token start, int count) {
  std::vector<Token> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back((start + i) % kModulus);
  return tokens;
}

/// Every path counts upwards, as all that was ever said does.
void expect_run(const RecallDraft& draft, Token last) {
  for (std::size_t i = 0; i < draft.tokens.size(); ++i) {
    EXPECT(draft.parents[i] < static_cast<std::int32_t>(i));
    const Token before =
        draft.parents[i] == kRoot ? last : draft.tokens[static_cast<std::size_t>(draft.parents[i])];
    EXPECT(draft.tokens[i] == (before + 1) % kModulus);
    EXPECT(draft.confidence[i] > 0 && draft.confidence[i] < 1);
  }
}

void streams_draft_true_continuations_while_others_write_and_remove() {
  const auto shared = std::make_shared<Recall>(4096);
  std::atomic<bool> stop = false;
  std::atomic<std::size_t> drafted = 0;
  std::vector<std::thread> readers;
  for (unsigned seed = 0; seed < 3; ++seed) {
    readers.emplace_back([&, seed] {
      std::mt19937 random(seed);
      while (!stop) {
        const auto start = static_cast<Token>(random() % kModulus);
        RecallRequest stream(shared, run(start, 5), 7, RecallPolicy{});
        for (Token at = start + 5; at < start + 40; at += 3) {
          const RecallDraft& draft = stream.propose({16, 16});
          expect_run(draft, (at - 1) % kModulus);
          drafted += draft.tokens.size();
          stream.observe(run(at % kModulus, 3));
        }
        stream.close();
      }
    });
  }
  for (Token i = 0; i < 3000 || drafted == 0; ++i) {
    const Recall::Sequence sequence = shared->begin();
    shared->add(sequence, 7, {}, run(i * 7 % kModulus, 100));
    if (i % 50 == 0) shared->remove(sequence);
    if (i % 400 == 0) shared->remove_namespace(7);
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
}

/// Two histories alike: in one all streams move and draft together, in the other one by one.
void a_batch_is_what_its_streams_are_alone() {
  const auto together = std::make_shared<Recall>(2048);
  const auto apart = std::make_shared<Recall>(2048);
  std::vector<std::unique_ptr<RecallRequest>> owned;
  std::vector<RecallRequest*> batch;
  std::vector<RecallRequest*> alone;
  std::vector<RecallBudget> budgets;
  std::mt19937 random(4);
  for (std::uint32_t i = 0; i < 37; ++i) {
    const RecallPolicy policy{i % 5 == 0, 0.0F, 1 + i % 9};
    const auto prompt = run(static_cast<Token>(random() % kModulus), static_cast<int>(i % 7));
    for (const auto& [shared, list] : {std::pair{together, &batch}, {apart, &alone}}) {
      owned.push_back(std::make_unique<RecallRequest>(shared, prompt, i % 3, policy));
      list->push_back(owned.back().get());
    }
    budgets.push_back({i % 11, i % 6, 0.02F * static_cast<float>(i % 4)});
  }
  for (int step = 0; step < 30; ++step) {
    propose_all(batch, budgets, 3);
    std::vector<std::vector<Token>> said;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const RecallDraft& draft = alone[i]->propose(budgets[i]);
      EXPECT(draft.tokens == batch[i]->last().tokens);
      EXPECT(draft.parents == batch[i]->last().parents);
      EXPECT(draft.confidence == batch[i]->last().confidence);
      EXPECT(draft.sources == batch[i]->last().sources);
      said.push_back(run(static_cast<Token>(random() % 20), static_cast<int>(random() % 5)));
    }
    observe_all(batch, std::vector<std::span<const Token>>(said.begin(), said.end()), 3);
    for (std::size_t i = 0; i < alone.size(); ++i) alone[i]->observe(said[i]);
    EXPECT(together->written() == apart->written());
  }
}

/// What `nbytes` says is what operator new gave, to the byte, before and after each move.
void a_stream_counts_all_it_holds() {
  const auto shared = std::make_shared<Recall>(2048);
  shared->add(shared->begin(), 0, {}, run(0, 1000));
  for (int turn = 0; turn < 2; ++turn) {
    const std::size_t before = held_bytes;
    const auto expect_exact = [&](const RecallRequest& stream) {
      // The first turn brings this thread's buffers, which stay.
      EXPECT(turn == 0 || stream.nbytes() == held_bytes - before);
    };
    RecallRequest stream(shared, run(0, 300), 0, RecallPolicy{false, 0.0F, 8});
    expect_exact(stream);
    for (Token at = 300; at < 400; at += 3) {
      EXPECT(!stream.propose({16, 16}).tokens.empty());
      expect_exact(stream);
      stream.observe(run(at, 3));
      expect_exact(stream);
    }
    stream.close();
    expect_exact(stream);
  }
}

void a_batch_uses_many_threads() {
  const auto shared = std::make_shared<Recall>(8192);
  shared->add(shared->begin(), 1, {}, run(0, 2000));
  std::vector<std::unique_ptr<RecallRequest>> owned;
  std::vector<RecallRequest*> streams;
  for (Token i = 0; i < 64; ++i) {
    owned.push_back(std::make_unique<RecallRequest>(shared, run(i * 11, 6), 1, RecallPolicy{}));
    streams.push_back(owned.back().get());
  }
  for (Token step = 0; step < 20; ++step) {
    propose_all(streams, std::vector<RecallBudget>(streams.size(), {8, 8}), 4);
    std::vector<std::vector<Token>> said;
    for (Token i = 0; i < 64; ++i) said.push_back(run(i * 11 + 6 + step * 2, 2));
    for (std::size_t i = 0; i < streams.size(); ++i) {
      EXPECT(!streams[i]->last().tokens.empty());
      expect_run(streams[i]->last(), (said[i][0] + kModulus - 1) % kModulus);
    }
    const std::vector<std::span<const Token>> parts(said.begin(), said.end());
    observe_all(streams, parts, 4);
  }
}

/// Heads outlive what they name: once the ring has gone round, one may lead to a slot that holds
/// context now, behind the very token that it is the head of.
void a_wrap_never_lets_context_be_drafted() {
  for (std::size_t filler = 0; filler < 90; ++filler) {  // one of them ends where the ring does
    const auto shared = std::make_shared<Recall>(256);
    shared->add(shared->begin(), 7, {}, std::vector<Token>{1, 2, 3});
    for (const std::size_t size : {std::size_t{100}, std::size_t{70}, filler}) {
      // One token only, so that nearly all heads stay as they are.
      shared->add(shared->begin(), 7, {}, std::vector<Token>(size, 1000));
    }
    shared->add(shared->begin(), 7, std::vector<Token>{1, 2, 5, 6}, std::vector<Token>{9});
    for (const auto& [context, after] :
         {std::pair{std::vector<Token>{2}, Token{3}}, {{1, 2}, 3}, {{5, 6}, 9}}) {
      RecallRequest stream(shared, context, 7, RecallPolicy{});
      const RecallDraft& draft = stream.propose({8, 8});
      for (const Token token : draft.tokens) EXPECT(token == after);
      EXPECT(after == 3 || draft.tokens.size() == 1);
    }
  }
}

/// A budget's floor counts where it is above the policy's.
void a_draft_keeps_to_the_higher_floor() {
  const auto shared = std::make_shared<Recall>(8192);
  std::mt19937 random(2);
  std::vector<Token> text;
  for (int i = 0; i < 2000; ++i) text.push_back(static_cast<Token>(random() % 4));
  shared->add(shared->begin(), 1, {}, text);
  for (const float floor : {0.0F, 0.01F, 0.1F, 0.5F}) {
    RecallRequest low(shared, run(0, 4), 1, RecallPolicy{});
    RecallRequest high(shared, run(0, 4), 1, RecallPolicy{false, floor, 256});
    const RecallDraft& one = low.propose({32, 32, floor});
    const RecallDraft& other = high.propose({32, 32, 0.005F});
    EXPECT(floor < 0.005F || one.tokens == other.tokens);
    for (const float probability : one.probability) EXPECT(probability >= 0.999F * floor);
  }
}

/// Slots that are a margin old may be read until a writer comes within a block of them: it changes a
/// block's owner, and with it the namespace of its last slots, before it overwrites those.
void a_reader_draws_back_a_block_before_the_writer_is_there() {
  Recall shared(4096);
  Recall::Impl& history = shared.impl();
  const std::uint64_t written = history.header->written;
  const std::uint64_t margin = history.margin();
  history.header->claimed = written + margin - kBlock;
  EXPECT(history.intact(written));
  history.header->claimed = written + margin - kBlock + 1;
  EXPECT(!history.intact(written));
}

/// Others write between the steps of a removal, once round the ring and further; what is left is
/// byte for byte what is left where something else was removed.
void a_removal_in_slices_leaves_no_trace_whatever_is_written_meanwhile() {
  constexpr std::uint32_t kSlots = 16 * recall::Removal::kSlice;
  for (const int pause : {0, 1, 3}) {
    std::vector<std::vector<std::byte>> left;
    for (const unsigned secret : {1U, 2U}) {
      Recall history(kSlots, 9);
      std::mt19937 random(5);
      const auto say = [&](std::mt19937& by, int count) {
        const Recall::Sequence sequence = history.begin();
        std::vector<Token> text;
        for (int i = 0; i < count; ++i) text.push_back(static_cast<Token>(by() % 50));
        history.add(sequence, 3, {}, text);
        return sequence;
      };
      for (int i = 0; i < 50; ++i) say(random, 1000);
      std::mt19937 other(secret);
      const Recall::Sequence gone = say(other, 9000);
      for (int i = 0; i < 20; ++i) say(random, 1000);
      recall::Removal removal(history.impl(), {gone, 0});
      int steps = 0;
      while (removal.step()) {
        if (pause != 0 && ++steps % pause == 0) say(random, 1500);
      }
      EXPECT(removal.removed() == 9000 + 8 * (9000 / history.part()));
      EXPECT(pause == 0 || steps > 40);
      const std::byte* memory = history.impl().memory.data();
      left.emplace_back(memory, memory + history.nbytes());
    }
    EXPECT(left[0] == left[1]);
  }
}

void any_bytes_behind_a_header_are_safe() {
  std::string folder = (std::filesystem::temp_directory_path() / "recall-XXXXXX").string();
  EXPECT(::mkdtemp(folder.data()) != nullptr);
  const std::string path = folder + "/history.recall";
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    std::filesystem::remove(path);
    Recall::open(path, true, 1024, {})->add(1, 0, {}, run(0, 900));
    std::FILE* file = std::fopen(path.c_str(), "r+b");
    EXPECT(file != nullptr);
    const auto size = static_cast<long>(std::filesystem::file_size(path));
    for (int i = 0; i < 4000; ++i) {
      std::fseek(file, 4096 + static_cast<long>(random() % static_cast<unsigned>(size - 4096)),
                 SEEK_SET);
      std::fputc(static_cast<int>(random() & 255), file);
    }
    std::fclose(file);
    const std::shared_ptr<Recall> shared = Recall::open(path, true, 1024, {});
    for (Token i = 0; i < 60; ++i) {
      RecallRequest stream(shared, run(i * 13 % kModulus, 20), 0, RecallPolicy{});
      EXPECT(stream.propose({32, 32}).tokens.size() <= 32);
      stream.observe(run(5, 40));
      stream.close();
    }
    shared->remove(3);
  }
  std::filesystem::remove_all(folder);
}

void rows_are_kept_while_others_draft_from_them_and_forget_them() {
  const auto shared = std::make_shared<Recall>(1024);
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < 300; ++round) {
        RecallRequest stream(shared, run(thread + round % 10, 3), 0, RecallPolicy{});
        const RecallDraft draft = stream.propose({16, 16});
        for (const std::uint8_t source : draft.sources) {
          EXPECT(source == static_cast<std::uint8_t>(RecallSource::kTarget));
        }
        std::vector<Token> likely;
        std::vector<float> logprobs;
        Token at = thread + round % 10 + 2;
        for (std::size_t i = 0; i <= draft.tokens.size(); ++i) {
          if (i > 0) at = draft.tokens[i - 1];
          for (const Token each : run(at + 1, 2)) likely.push_back(each);
          logprobs.insert(logprobs.end(), {-0.1F, -2.4F});
        }
        stream.keep_rows({draft.tokens, draft.parents, 2, likely, logprobs});
        stream.abandon();
      }
      done = true;
    });
  }
  while (!done) shared->remove_namespace(0);
  for (std::thread& thread : threads) thread.join();
  RecallRequest stream(shared, run(500, 3), 0, RecallPolicy{});
  const std::vector<Token> likely = {7, 9};
  const std::vector<float> logprobs = {-0.2F, -1.8F};
  stream.keep_rows({{}, {}, 2, likely, logprobs});
  EXPECT(stream.propose({1, 1}).tokens == std::vector<Token>{7});
  bool refused = false;
  try {
    stream.keep_rows({likely, {}, 1, likely, logprobs});
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  EXPECT(refused);
}

}  // namespace

int main() {
  rows_are_kept_while_others_draft_from_them_and_forget_them();
  streams_draft_true_continuations_while_others_write_and_remove();
  a_batch_is_what_its_streams_are_alone();
  a_stream_counts_all_it_holds();
  a_batch_uses_many_threads();
  a_wrap_never_lets_context_be_drafted();
  a_draft_keeps_to_the_higher_floor();
  a_reader_draws_back_a_block_before_the_writer_is_there();
  a_removal_in_slices_leaves_no_trace_whatever_is_written_meanwhile();
  any_bytes_behind_a_header_are_safe();
  std::puts("recall: all tests passed");
}
