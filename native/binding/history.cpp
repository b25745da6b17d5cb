// Python's view of the history file: arrays that stand in the mapping, and a writer.

#include "draftwood/history.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <optional>
#include <system_error>

#include "refusal.h"
#include "unlocked.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using draftwood::Fingerprint;
using draftwood::History;
using draftwood::HistoryCheck;
using draftwood::HistoryError;
using draftwood::HistoryFault;
using draftwood::HistoryInfo;
using draftwood::HistoryWriter;
using draftwood::path_of;
using draftwood::Replacement;
using draftwood::Token;

template <typename T>
using Borrowed = nb::ndarray<nb::numpy, const T, nb::ndim<1>>;

using TokenArgument = nb::ndarray<const Token, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::string text_of(const nb::bytes& bytes) {
  return {bytes.c_str(), bytes.size()};
}

Fingerprint fingerprint_of(const nb::bytes& bytes) {
  Fingerprint fingerprint{};
  if (bytes.size() != fingerprint.size()) {
    throw nb::value_error("a tokenizer fingerprint has 32 bytes");
  }
  const auto* data = static_cast<const std::uint8_t*>(bytes.data());
  std::copy_n(data, fingerprint.size(), fingerprint.begin());
  return fingerprint;
}

nb::bytes bytes_of(const Fingerprint& fingerprint) {
  return nb::bytes(fingerprint.data(), fingerprint.size());
}

nb::bytes bytes_of(std::string_view text) {
  return nb::bytes(text.data(), text.size());
}

/// The elements in place; the array keeps the mapping alive.
template <typename T>
Borrowed<T> borrow(std::span<const T> values, nb::handle owner) {
  static constexpr T kNone{};
  return {values.empty() ? &kNone : values.data(), {values.size()}, owner};
}

std::size_t checked(const History& history, std::size_t i) {
  if (i >= history.view().size()) throw nb::index_error("no such sequence");
  return i;
}

const char* error_name(HistoryFault fault) {
  switch (fault) {
    case HistoryFault::kTruncated:
      return "HistoryTruncated";
    case HistoryFault::kNotAHistory:
      return "NotAHistory";
    case HistoryFault::kNewer:
      return "HistoryTooNew";
    case HistoryFault::kChecksum:
      return "HistoryCorrupt";
    case HistoryFault::kFingerprint:
      return "TokenizerMismatch";
    case HistoryFault::kLayout:
      break;
  }
  return "HistoryMalformed";
}

void translate(const std::exception_ptr& pointer, void* /*payload*/) {
  try {
    std::rethrow_exception(pointer);
  } catch (const HistoryError& error) {
    draftwood::set_error(error_name(error.fault()), error.what());
  } catch (const std::system_error& error) {
    // what() is "path: message"; OSError takes them apart and picks its subclass by number.
    const std::string message = error.code().message();
    std::string path = error.what();
    if (path.ends_with(": " + message)) path.resize(path.size() - message.size() - 2);
    const nb::object name = nb::steal(PyUnicode_DecodeFSDefault(path.c_str()));
    const nb::object arguments = nb::make_tuple(error.code().value(), message, name);
    PyErr_SetObject(PyExc_OSError, arguments.ptr());
  }
}

}  // namespace

void bind_history(nb::module_& module) {
  nb::register_exception_translator(translate);

  nb::class_<HistoryInfo>(module, "HistoryInfo", "What a history file's header says.")
      .def_ro("major", &HistoryInfo::major)
      .def_ro("minor", &HistoryInfo::minor)
      .def_ro("file_bytes", &HistoryInfo::bytes)
      .def_ro("sequences", &HistoryInfo::sequences)
      .def_ro("tokens", &HistoryInfo::tokens)
      .def_ro("namespaces", &HistoryInfo::namespaces)
      .def_ro("token_limit", &HistoryInfo::token_limit)
      .def_prop_ro("fingerprint",
                   [](const HistoryInfo& info) { return bytes_of(info.fingerprint); });

  nb::class_<History>(module, "History",
                      "A mapped history file. Arrays are borrowed from the mapping and keep it.")
      .def_static(
          "open",
          [](const nb::bytes& path, bool check_tokens, const std::optional<nb::bytes>& expected) {
            const std::string name = path_of(path);
            const HistoryCheck check = check_tokens ? HistoryCheck::kAll : HistoryCheck::kLayout;
            std::optional<Fingerprint> fingerprint;
            if (expected) fingerprint = fingerprint_of(*expected);
            const draftwood::Unlocked unlocked;
            return History::open(name, check, fingerprint, draftwood::run_signal_handlers);
          },
          "path"_a, "check_tokens"_a, "expected"_a.none())
      .def("__len__", [](const History& h) { return h.view().size(); })
      .def_prop_ro("info", [](const History& h) { return h.view().info(); })
      .def_prop_ro(
          "tokens",
          [](nb::handle self) {
            return borrow(nb::cast<const History&>(self).view().tokens(), self);
          },
          nb::sig("def tokens(self) -> numpy.typing.NDArray[numpy.int32]"))
      .def_prop_ro(
          "offsets",
          [](nb::handle self) {
            return borrow(nb::cast<const History&>(self).view().offsets(), self);
          },
          nb::sig("def offsets(self) -> numpy.typing.NDArray[numpy.uint64]"))
      .def_prop_ro(
          "times",
          [](nb::handle self) {
            return borrow(nb::cast<const History&>(self).view().times(), self);
          },
          nb::sig("def times(self) -> numpy.typing.NDArray[numpy.int64]"))
      .def_prop_ro(
          "namespace_ids",
          [](nb::handle self) {
            return borrow(nb::cast<const History&>(self).view().namespace_ids(), self);
          },
          nb::sig("def namespace_ids(self) -> numpy.typing.NDArray[numpy.uint32]"))
      .def(
          "sequence",
          [](nb::handle self, std::size_t i) {
            const auto& history = nb::cast<const History&>(self);
            return borrow(history.view().sequence(checked(history, i)), self);
          },
          "i"_a, nb::sig("def sequence(self, i: int) -> numpy.typing.NDArray[numpy.int32]"))
      .def(
          "metadata",
          [](const History& h, std::size_t i) {
            return bytes_of(h.view().metadata(checked(h, i)));
          },
          "i"_a)
      .def(
          "namespace_name",
          [](const History& h, std::size_t i) {
            if (i >= h.view().info().namespaces) throw nb::index_error("no such namespace");
            return bytes_of(h.view().namespace_name(i));
          },
          "i"_a);

  module.def(
      "read_history_info",
      [](const nb::bytes& path) {
        const std::string name = path_of(path);
        const draftwood::Unlocked unlocked;
        return draftwood::read_history_info(name);
      },
      "path"_a);

  nb::class_<HistoryWriter>(module, "HistoryWriter",
                            "Writes a history beside its path, then renames.")
      .def(
          "__init__",
          [](HistoryWriter* self, const nb::bytes& path, const nb::bytes& fingerprint) {
            const std::string name = path_of(path);
            const Fingerprint print = fingerprint_of(fingerprint);
            const draftwood::Unlocked unlocked;
            new (self) HistoryWriter(name, print);
          },
          "path"_a, "fingerprint"_a)
      .def(
          "add",
          [](HistoryWriter& self, const TokenArgument& tokens, const nb::bytes& name_space,
             std::int64_t time, const nb::bytes& metadata) {
            const std::span<const Token> ids{tokens.data(), tokens.size()};
            const std::string name = text_of(name_space);
            const std::string about = text_of(metadata);
            const draftwood::Unlocked unlocked;
            self.add(ids, name, time, about, draftwood::run_signal_handlers);
          },
          "tokens"_a.noconvert(), "namespace"_a, "time"_a, "metadata"_a)
      .def("finish", &HistoryWriter::finish, nb::call_guard<draftwood::Unlocked>())
      .def("abandon", &HistoryWriter::abandon, nb::call_guard<draftwood::Unlocked>())
      .def_prop_ro("sequences", &HistoryWriter::sequences)
      .def_prop_ro("tokens", &HistoryWriter::tokens);

  nb::class_<Replacement>(module, "Replacement", "A file that takes another's place when complete.")
      .def(
          "__init__",
          [](Replacement* self, const nb::bytes& path) {
            const std::string name = path_of(path);
            const draftwood::Unlocked unlocked;
            new (self) Replacement(name);
          },
          "path"_a)
      .def("fileno", &Replacement::file, "To write to; -1 when it is not open.")
      .def("commit", &Replacement::commit, nb::call_guard<draftwood::Unlocked>(),
           "Put everything on disk, then give the file its name.")
      .def("abandon", &Replacement::abandon, nb::call_guard<draftwood::Unlocked>(),
           "Remove the file; nothing happens after commit.");

  module.attr("NO_TIME") = draftwood::kNoTime;
}
