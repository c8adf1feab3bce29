//! Guests of a few instructions, as the VMM's own tests write them.
#![allow(dead_code, unreachable_pub)]

#[path = "../../../vmm/tests/support/guest/mod.rs"]
pub(crate) mod guest;
