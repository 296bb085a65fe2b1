//! The kernel's entry points, called by `machine`'s entry.
