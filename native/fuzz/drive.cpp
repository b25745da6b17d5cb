// Drives the fuzz targets without libFuzzer: mutations that know where the numbers of a file stand,
// which the targets then seal with right checksums.
//
//   drive.sh history|recall SECONDS [SEED]     prints how many files were tried
//
// Whatever goes wrong ends the process by a sanitizer or abort().

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "draftwood/history.h"
#include "draftwood/recall.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using namespace draftwood;
using Bytes = std::vector<std::uint8_t>;

Bytes read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Small histories of every section: none, one and several sequences and namespaces.
std::vector<Bytes> histories(const std::string& folder) {
  std::vector<Bytes> all;
  for (int sequences : {0, 1, 5}) {
    const std::string path = folder + "/history.dw";
    HistoryWriter writer(path);
    for (int i = 0; i < sequences; ++i) {
      std::vector<Token> tokens;
      for (Token token = 0; token <= i; ++token) tokens.push_back(token);
      writer.add(tokens, i % 2 == 0 ? "" : "a", i, i % 3 == 0 ? R"({"a":1})" : "");
    }
    writer.finish();
    all.push_back(read(path));
  }
  return all;
}

std::vector<Bytes> recalls(const std::string& folder) {
  const std::string path = folder + "/history.recall";
  {
    const auto recall = Recall::open(path, true, Recall::kLeastTokens, {}, 7);
    for (Token round = 0; round < 6; ++round) {
      std::vector<Token> text;
      for (Token i = 0; i < 90; ++i) text.push_back(i * (round % 2 + 1) % 23);
      const Recall::Sequence sequence = recall->begin();
      recall->add(sequence, static_cast<NamespaceKey>(round % 2), {}, text);
      if (round == 4) recall->remove(sequence);
    }
  }
  return {read(path)};
}

/// Changes up to eight words, mostly where a file has its header and tables, to numbers at which
/// sums overflow and comparisons tip; or cuts the file.
void mutate(Bytes& bytes, std::size_t tables, std::mt19937_64& random) {
  constexpr std::uint64_t kEdges[] = {0,          1,          63,         64,         255,
                                      4096,       0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1ULL << 32,
                                      1ULL << 63, ~0ULL,      ~0ULL - 63};
  for (std::uint64_t changes = random() % 8 + 1; changes > 0 && !bytes.empty(); --changes) {
    const std::size_t reach = random() % 4 == 0 ? bytes.size() : std::min(bytes.size(), tables);
    const std::size_t width = std::size_t{1} << random() % 4;
    const std::size_t at = random() % reach / width * width;
    if (at + width > bytes.size()) continue;
    std::uint64_t value = 0;
    std::memcpy(&value, &bytes[at], width);
    switch (random() % 4) {
      case 0:
        value = kEdges[random() % std::size(kEdges)];
        break;
      case 1:
        value += random() % 17 - 8;
        break;
      case 2:
        value ^= std::uint64_t{1} << random() % (8 * width);
        break;
      default:
        value = random();
    }
    std::memcpy(&bytes[at], &value, width);
  }
  if (random() % 16 == 0) bytes.resize(random() % (bytes.size() + 1));
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::fputs("drive history|recall SECONDS [SEED]\n", stderr);
    return 2;
  }
  const bool history = std::strcmp(arguments[1], "history") == 0;
  std::mt19937_64 random(count > 3 ? std::strtoull(arguments[3], nullptr, 10) : 1);
  std::string folder = (std::filesystem::temp_directory_path() / "fuzz-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return 1;
  const std::vector<Bytes> samples = history ? histories(folder) : recalls(folder);
  std::filesystem::remove_all(folder);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(arguments[2]));
  std::uint64_t files = 0;
  do {
    for (int i = 0; i < 100; ++i, ++files) {
      Bytes bytes = samples[random() % samples.size()];
      mutate(bytes, history ? 128 + 32 * 8 : 4096 + 4096, random);
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
  } while (std::chrono::steady_clock::now() < end);
  std::printf("%llu files\n", static_cast<unsigned long long>(files));
}
