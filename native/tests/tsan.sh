#!/bin/sh
# The suffix tree's native tests under ThreadSanitizer: batches, appends, removals side by side.
# Needs a compiler with -fsanitize=thread; CXX names it.
set -eu
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${CXX:-g++}" -std=c++20 -O1 -g -fsanitize=thread -Inative/include \
  native/src/children.cpp native/src/suffix_*.cpp native/src/thread_pool.cpp \
  native/tests/suffix_tree_test.cpp -pthread -o "$folder/suffix_tree_test"
# Without address randomization: ThreadSanitizer of older compilers cannot map its shadow with it.
setarch -R "$folder/suffix_tree_test"
