#include "many_children.h"

namespace draftwood {

/// Puts a child, which stands nowhere, before another.
void ManyChildren::link_before(Token token, Token next) {
  Entry& behind = entries_.at(next);
  Entry& entry = entries_.at(token);
  entry.previous = behind.previous;
  entry.next = next;
  (behind.previous == kEnd ? front_ : entries_.at(behind.previous).next) = token;
  behind.previous = token;
}

/// Puts a child, which stands nowhere, behind another; behind none in an empty list.
void ManyChildren::link_after(Token token, Token previous) {
  Entry& entry = entries_.at(token);
  entry.previous = previous;
  entry.next = previous == kEnd ? kEnd : entries_.at(previous).next;
  (previous == kEnd ? front_ : entries_.at(previous).next) = token;
  (entry.next == kEnd ? back_ : entries_.at(entry.next).previous) = token;
}

void ManyChildren::unlink(Token token) {
  const Entry& entry = entries_.at(token);
  (entry.previous == kEnd ? front_ : entries_.at(entry.previous).next) = entry.next;
  (entry.next == kEnd ? back_ : entries_.at(entry.next).previous) = entry.previous;
}

/// Takes a child out of the group of its count. It still stands where it stood.
void ManyChildren::leave_group(Token token) {
  const Entry& entry = entries_.at(token);
  Group& group = groups_.at(key_of(entry.count));
  if (group.first == group.last) {
    groups_.erase(group.key);
  } else if (group.first == token) {
    group.first = entry.next;
  } else if (group.last == token) {
    group.last = entry.previous;
  }
}

void ManyChildren::add(const Child& child) {
  entries_.set(Entry{child.token, child.ref, child.count, kEnd, kEnd});
  link_after(child.token, back_);
  if (Group* const group = groups_.find(key_of(child.count))) {
    group->last = child.token;
  } else {
    groups_.set(Group{key_of(child.count), child.token, child.token});
  }
}

void ManyChildren::raise(Token token) {
  const std::uint32_t count = entries_.at(token).count;
  const Group old = groups_.at(key_of(count));
  leave_group(token);
  entries_.at(token).count = count + 1;
  Group* const now = groups_.find(key_of(count + 1));
  if (old.first != token) {
    unlink(token);
    link_before(token, old.first);
  } else if (now != nullptr) {
    unlink(token);
    link_before(token, now->first);
  }
  if (now == nullptr) {
    groups_.set(Group{key_of(count + 1), token, token});
  } else {
    (old.first == token ? now->first : now->last) = token;
  }
}

void ManyChildren::lower(Token token) {
  const std::uint32_t count = entries_.at(token).count;
  const Token last = groups_.at(key_of(count)).last;
  leave_group(token);
  if (last != token) {
    unlink(token);
    link_after(token, last);
  }
  entries_.at(token).count = count - 1;
  if (Group* const group = groups_.find(key_of(count - 1))) {
    group->first = token;
  } else {
    groups_.set(Group{key_of(count - 1), token, token});
  }
}

void ManyChildren::erase(Token token) {
  leave_group(token);
  unlink(token);
  entries_.erase(token);
}

}  // namespace draftwood
