// What Python may hand over that is refused before anything is done with it.

#pragma once

#include <nanobind/nanobind.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

namespace draftwood {

/// Sets an error of draftwood.errors by its name. `what` may hold a path that is not UTF-8.
inline void set_error(const char* name, const std::string& what) {
  const nanobind::object type = nanobind::module_::import_("draftwood.errors").attr(name);
  const nanobind::object text = nanobind::steal(PyUnicode_DecodeUTF8(
      what.data(), static_cast<Py_ssize_t>(what.size()), "backslashreplace"));
  if (text.is_valid()) PyErr_SetObject(type.ptr(), text.ptr());
}

/// Raises draftwood.errors.InvalidOption.
[[noreturn]] inline void refuse_option(const std::string& what) {
  set_error("InvalidOption", what);
  throw nanobind::python_error();
}

/// A path as os.fsencode() made it, since a name need not be UTF-8.
inline std::string path_of(const nanobind::bytes& path) {
  std::string text{path.c_str(), path.size()};
  if (text.empty()) refuse_option("the path is empty; name a file");
  if (text.find('\0') != std::string::npos) {
    refuse_option("the path holds a zero byte, which no file's name does; name a file");
  }
  return text;
}

/// The streams of a batch call, which must be different ones of one kind.
template <class Stream>
std::vector<Stream*> streams_of(const nanobind::list& streams) {
  std::vector<Stream*> all;
  all.reserve(streams.size());
  for (const nanobind::handle each : streams) {
    Stream* stream = nullptr;
    if (each.is_none() || !nanobind::try_cast<Stream*>(each, stream) || stream == nullptr) {
      refuse_option("entry " + std::to_string(all.size()) +
                    " of the batch is no stream of this index; pass what open() gave");
    }
    all.push_back(stream);
  }
  std::vector<Stream*> sorted = all;
  std::sort(sorted.begin(), sorted.end(), std::less<>());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    refuse_option("a stream stands twice in the batch; name each once");
  }
  return all;
}

}  // namespace draftwood
