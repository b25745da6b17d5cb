#!/bin/sh
# Builds a fuzz target with its driver under AddressSanitizer and UBSan, and runs it.
#   native/fuzz/drive.sh history|recall SECONDS [SEED]
set -eu
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${CXX:-g++}" -std=c++20 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -Inative/include \
  native/fuzz/drive.cpp "native/fuzz/$1_fuzz.cpp" native/src/*.cpp -pthread -o "$folder/drive"
"$folder/drive" "$@"
