// Where a text says what a prediction says, in other tokens.

#include <string>
#include <string_view>

#include "prediction.h"

namespace draftwood::recall {
namespace {

bool is_space(char byte) noexcept {
  return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

}  // namespace

/// Compares what came since the text left with the prediction from there on, byte for byte, white
/// space at their beginnings apart.
Follower::Seam Follower::seam(std::int32_t anchor) const {
  if (texts_ == nullptr || since_ != recent_.size()) return {};
  std::string came;
  for (const Token each : recent_) {
    const std::string_view text = texts_->of(each);
    if (text.empty()) return {};
    came += text;
  }
  std::string_view rest(came);
  while (!rest.empty() && is_space(rest.front())) rest.remove_prefix(1);
  Seam found{anchor, 0, !rest.empty()};
  bool leading = true;
  for (;; ++found.at) {
    const std::string_view text = texts_->of(token(found.at));
    if (text.empty()) return {};
    for (found.offset = 0; found.offset < text.size(); ++found.offset) {
      const char byte = text[found.offset];
      leading = leading && is_space(byte);
      if (leading) continue;
      if (rest.empty()) return found;
      if (rest.front() != byte) return {};
      rest.remove_prefix(1);
    }
  }
}

/// A prediction's first token with a space before it, or without its own.
void Follower::expect_start(std::int32_t anchor) {
  if (texts_ == nullptr) return;
  const std::string text(texts_->of(token(anchor)));
  if (text.empty()) return;
  const bool spaced = is_space(text.front());
  if (spaced && text.size() == 1) {
    expected_.push_back({token(anchor + 1), kSpaced, {anchor + 2, 1}});
    return;
  }
  expected_.push_back(
      {texts_->token(spaced ? text.substr(1) : " " + text), kSpaced, {anchor + 1, 1}});
}

/// What completes the token in which the text stands, or the next one.
void Follower::expect_seam(std::int32_t anchor) {
  const Seam found = seam(anchor);
  if (found.at < 0) return;
  if (found.offset == 0) {
    expected_.push_back({token(found.at), kSeam, {found.at + 1, 1}});
    return;
  }
  const std::string_view rest = texts_->of(token(found.at)).substr(found.offset);
  expected_.push_back({texts_->token(rest), kSeam, {found.at + 1, 1}});
}

}  // namespace draftwood::recall
