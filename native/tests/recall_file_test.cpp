// Hostile Recall files under sanitizers: cut, damaged, and made of noise.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "../fuzz/recall_fuzz.h"
#include "../src/recall_impl.h"
#include "draftwood/recall.h"
#include "expect.h"

namespace {

using namespace draftwood;

using Bytes = std::vector<std::byte>;

/// A file of 256 slots that has gone round, with two namespaces, a removal and what was learned.
Bytes sample() {
  std::string folder = (std::filesystem::temp_directory_path() / "recall-XXXXXX").string();
  EXPECT(::mkdtemp(folder.data()) != nullptr);
  const std::string path = folder + "/history.recall";
  {
    const std::shared_ptr<Recall> recall = Recall::open(path, true, 256, {});
    for (Token round = 0; round < 6; ++round) {
      std::vector<Token> text;
      for (Token i = 0; i < 90; ++i) text.push_back((i * (round % 2 + 1)) % 23);
      const Recall::Sequence sequence = recall->begin();
      recall->add(sequence, static_cast<NamespaceKey>(round % 2), {}, text);
      if (round == 4) recall->remove(sequence);
      RecallRequest stream(recall, std::span(text).first(20), 0, RecallPolicy{});
      stream.propose({16, 16});
      stream.observe(std::span(text).subspan(20, 10));
    }
  }
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(file), {}};
  std::filesystem::remove_all(folder);
  const auto* bytes = reinterpret_cast<const std::byte*>(chars.data());
  return {bytes, bytes + chars.size()};
}

void a_file_that_is_cut_does_not_open(const Bytes& good) {
  EXPECT(recall::draft_from(good));
  for (std::size_t size = 0; size < good.size(); size += size < 4200 ? 1 : 1021) {
    EXPECT(!recall::draft_from(std::span(good).first(size)));
  }
}

void a_file_with_a_flipped_bit_does_not_open_or_drafts(Bytes bytes) {
  std::mt19937 random(1);
  const std::size_t model = RecallLayout::of(256).model;
  for (std::size_t at = 0; at < bytes.size(); at += at < 192 ? 1 : at < model ? 31 : 1009) {
    const auto flip = static_cast<std::byte>(1U << random() % 8);
    bytes[at] ^= flip;
    const bool opens = recall::draft_from(bytes);
    EXPECT(at < 72 ? !opens : at >= 144 ? opens : true);
    if (opens) recall::write_to(bytes);
    bytes[at] ^= flip;
  }
}

void noise_behind_a_good_header_drafts(const Bytes& good) {
  std::mt19937 random(2);
  for (int round = 0; round < 40; ++round) {
    Bytes bytes = good;
    const std::size_t from = round % 3 == 0 ? 128 : 4096;
    const int changes = round % 2 == 0 ? 50 : 20'000;
    for (int i = 0; i < changes; ++i) {
      bytes[from + random() % (bytes.size() - from)] = static_cast<std::byte>(random() & 255);
    }
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
}

}  // namespace

int main() {
  const Bytes good = sample();
  a_file_that_is_cut_does_not_open(good);
  a_file_with_a_flipped_bit_does_not_open_or_drafts(good);
  noise_behind_a_good_header_drafts(good);
  std::puts("recall files: all tests passed");
}
