// numpy arrays of one dimension, made and read through numpy's C interface: a draft has four, and
// nanobind's way, by a call of Python each, costs more than most drafts. Entries of numpy's function
// table keep their places over all versions of its interface, and so do the fields of an array.

#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

namespace draftwood::numpy {

namespace detail {

/// numpy's functions, found when first asked for: the extension loads where there is no numpy.
struct Interface {
  using New = PyObject* (*)(PyTypeObject*, int, const Py_ssize_t*, int, const Py_ssize_t*, void*,
                            int, int, PyObject*);
  using Described = PyObject* (*)(int);
  using Own = int (*)(PyObject*, PyObject*);
  PyTypeObject* array_type = nullptr;
  New make = nullptr;
  Own own = nullptr;
  Described describe = nullptr;

  static const Interface& get() {
    static Interface found;  // the GIL guards it
    if (found.make == nullptr) {
      nanobind::object module;
      try {
        module = nanobind::module_::import_("numpy._core.multiarray");
      } catch (const nanobind::python_error&) {  // numpy 1
        module = nanobind::module_::import_("numpy.core.multiarray");
      }
      const nanobind::object capsule = module.attr("_ARRAY_API");
      void** const table = static_cast<void**>(PyCapsule_GetPointer(capsule.ptr(), nullptr));
      if (table == nullptr) nanobind::raise_python_error();
      found.array_type = static_cast<PyTypeObject*>(table[2]);  // PyArray_Type
      found.describe = reinterpret_cast<Described>(table[45]);  // PyArray_DescrFromType
      found.own = reinterpret_cast<Own>(table[282]);            // PyArray_SetBaseObject
      found.make = reinterpret_cast<New>(table[93]);            // PyArray_New
    }
    return found;
  }
};

/// The fields with which every numpy array begins.
struct Array {
  PyObject_HEAD
  char* data;
  int dimensions;
  Py_ssize_t* shape;
  Py_ssize_t* strides;
  PyObject* base;
  PyObject* entries;
  int flags;
};
inline constexpr int kContiguous = 0x1;   // NPY_ARRAY_C_CONTIGUOUS
inline constexpr int kAligned = 0x100;    // NPY_ARRAY_ALIGNED
inline constexpr int kWritable = 0x400;   // NPY_ARRAY_WRITEABLE

template <class T>
inline constexpr int kType = -1;
template <>
inline constexpr int kType<std::uint8_t> = 2;  // NPY_UBYTE
template <>
inline constexpr int kType<std::int32_t> = 5;  // NPY_INT
template <>
inline constexpr int kType<float> = 11;  // NPY_FLOAT

/// How numpy describes entries in the machine's byte order.
template <class T>
PyObject* description(const Interface& numpy) {
  static PyObject* const found = numpy.describe(kType<T>);
  return found;
}

}  // namespace detail

/// The values of a contiguous array [n], borrowed; nothing where `source` is none.
template <class T = std::int32_t>
std::optional<std::span<const T>> read(nanobind::handle source) noexcept {
  try {
    const detail::Interface& numpy = detail::Interface::get();
    if (Py_TYPE(source.ptr()) != numpy.array_type) return std::nullopt;
    const auto& array = *reinterpret_cast<const detail::Array*>(source.ptr());
    if (array.dimensions != 1 || array.entries != detail::description<T>(numpy) ||
        (array.flags & detail::kAligned) == 0) {
      return std::nullopt;
    }
    const Py_ssize_t size = array.shape[0];
    if (size > 1 && array.strides[0] != Py_ssize_t{sizeof(T)}) return std::nullopt;
    return std::span(reinterpret_cast<const T*>(array.data), static_cast<std::size_t>(size));
  } catch (const nanobind::python_error&) {  // no numpy: then no array of its either
    return std::nullopt;
  }
}

/// An array over `values`, which `owner` keeps; nobody may write to values that are const.
template <class T>
nanobind::object view(std::span<T> values, nanobind::handle owner) {
  const detail::Interface& numpy = detail::Interface::get();
  using Value = std::remove_const_t<T>;
  const auto length = static_cast<Py_ssize_t>(values.size());
  const int flags = detail::kContiguous | detail::kAligned |
                    (std::is_const_v<T> ? 0 : detail::kWritable);
  auto* const data = const_cast<Value*>(values.data());
  PyObject* const made = numpy.make(numpy.array_type, 1, &length, detail::kType<Value>, nullptr,
                                    data, 0, flags, nullptr);
  if (made == nullptr) nanobind::raise_python_error();
  nanobind::object array = nanobind::steal(made);
  if (numpy.own(made, owner.inc_ref().ptr()) != 0) nanobind::raise_python_error();
  return array;
}

}  // namespace draftwood::numpy
