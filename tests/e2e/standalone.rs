//! The VMM by itself: its command line, its exit codes, its errors.
