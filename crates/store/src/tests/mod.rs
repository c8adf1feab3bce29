//! Tests of what cannot be reached from outside: the same session on a disk that fails.

mod disk;
mod faults;
mod open;
mod worker;
