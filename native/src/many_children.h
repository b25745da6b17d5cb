// The children of a record that has many: a hash table whose entries are linked in their order.
//
//   order    a:5 <-> f:3 <-> c:3 <-> b:1 <-> e:1 <-> d:1      by count, then as they came to it
//   groups   5: a..a   3: f..c   1: b..d                      the first and last of each count
//
// A child whose count changes moves to an end of a group, never between two of one. So that takes
// the same few steps however many children there are, and however many of them have its count.

#pragma once

#include <cstddef>
#include <cstdint>

#include "probed_table.h"

namespace draftwood {

using Ref = std::uint32_t;

struct Child {
  Token token;
  Ref ref;
  std::uint32_t count;
};

class ManyChildren {
 public:
  [[nodiscard]] Ref find(Token token) const {
    const Entry* const entry = entries_.find(token);
    return entry == nullptr ? kNone : entry->ref;
  }
  [[nodiscard]] Token front() const { return front_; }
  [[nodiscard]] Token back() const { return back_; }
  [[nodiscard]] Child child(Token token) const {
    const Entry& entry = entries_.at(token);
    return Child{token, entry.ref, entry.count};
  }
  /// The next one, or kEnd.
  [[nodiscard]] Token after(Token token) const { return entries_.at(token).next; }

  /// Adds a child whose count is not above any other's.
  void add(const Child& child);
  void replace(Token token, Ref ref) { entries_.at(token).ref = ref; }
  /// Adds one to a child's count. It becomes the first of its new count if it was the first of its
  /// old one, and the last otherwise.
  void raise(Token token);
  /// Takes one from a child's count. It becomes the first of its new count.
  void lower(Token token);
  void erase(Token token);

  [[nodiscard]] std::size_t nbytes() const {
    return sizeof(*this) + entries_.nbytes() + groups_.nbytes();
  }

 private:
  struct Entry {
    Token key = kEnd;
    Ref ref = kNone;
    std::uint32_t count = 0;
    Token previous = kEnd;
    Token next = kEnd;
  };
  struct Group {
    Token key = kEnd;  ///< a count
    Token first = kEnd;
    Token last = kEnd;
  };
  static Token key_of(std::uint32_t count) { return static_cast<Token>(count); }

  void link_before(Token token, Token next);
  void link_after(Token token, Token previous);
  void unlink(Token token);
  void leave_group(Token token);

  ProbedTable<Entry> entries_;
  ProbedTable<Group> groups_;
  Token front_ = kEnd;
  Token back_ = kEnd;
};

}  // namespace draftwood
