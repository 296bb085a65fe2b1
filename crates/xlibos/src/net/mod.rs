//! Placeholder: nothing here yet.
