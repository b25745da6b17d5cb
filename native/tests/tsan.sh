#!/bin/sh
# The native tests of the suffix tree and of Recall under ThreadSanitizer: batches, appends and
# removals side by side. Needs a compiler with -fsanitize=thread; CXX names it.
set -eu
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
build() {
  "${CXX:-g++}" -std=c++20 -O1 -g -fsanitize=thread -Inative/include "$@" \
    native/src/*.cpp -pthread
}
build native/tests/suffix_tree_test.cpp -o "$folder/suffix_tree_test"
build native/tests/recall_test.cpp -o "$folder/recall_test"
# Without address randomization: ThreadSanitizer of older compilers cannot map its shadow with it.
for test in suffix_tree_test recall_test; do
  setarch -R "$folder/$test"
done
echo "no data race was seen"
