//! The jail: what a guest has that owns its VMM.

mod attacker;
pub(crate) mod life;
mod strace;
mod support;
