//! Tests of what cannot be reached from outside.
