//! The handshake: which generation of the protocol both sides speak.
//!
//! Each side sends its [`Hello`] without waiting for the other's, and both then use
//! the older of the two generations. A generation is a frozen set of bytes; a feature
//! is something optional within one, used only when both sides named it.

use serde::{Deserialize, Serialize};

/// The newest generation this crate speaks.
pub const GENERATION: u32 = 1;

/// The oldest generation this crate still speaks.
pub const MINIMUM_GENERATION: u32 = 1;

/// Optional parts of the protocol, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features(pub u64);

impl Features {
    /// Sessions that outlive their connections ([`HostMessage::Session`](crate::HostMessage::Session)).
    pub const SESSIONS: Self = Self(1 << 0);

    /// Conversations about the guest's files ([`HostMessage::Fs`](crate::HostMessage::Fs)).
    pub const FILES: Self = Self(1 << 1);

    /// Settings before the boot, and the host's clock after it
    /// ([`HostMessage::Setting`](crate::HostMessage::Setting)).
    pub const SETTINGS: Self = Self(1 << 2);

    /// A root of two disks, one over the other ([`Root::Overlay`](crate::Root::Overlay)).
    pub const OVERLAY: Self = Self(1 << 3);

    /// Such a root whose disk below is mapped into the guest's memory ([`Root::Mapped`](crate::Root::Mapped)).
    pub const MAPPED: Self = Self(1 << 4);

    /// What this build can do.
    pub const SUPPORTED: Self = Self(
        Self::SESSIONS.0 | Self::FILES.0 | Self::SETTINGS.0 | Self::OVERLAY.0 | Self::MAPPED.0,
    );

    /// What both have.
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` is among these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The first message of both sides on every connection. Its bytes never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The newest generation the sender speaks.
    pub generation: u32,
    /// The oldest generation the sender speaks.
    pub minimum: u32,
    /// What the sender can do beyond it.
    pub features: Features,
}

impl Hello {
    /// What this build says.
    pub const fn ours() -> Self {
        Self {
            generation: GENERATION,
            minimum: MINIMUM_GENERATION,
            features: Features::SUPPORTED,
        }
    }
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The generation spoken from now on.
    pub generation: u32,
    /// The features both have.
    pub features: Features,
}

/// Two sides that share no generation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer speaks generations {theirs_minimum} to {theirs} of the agent protocol, this side \
     {ours_minimum} to {ours}; use a library and a guest initramfs of the same release \
     (`cargo xtask install` installs both)"
)]
pub struct HandshakeError {
    theirs: u32,
    theirs_minimum: u32,
    ours: u32,
    ours_minimum: u32,
}

/// The session that two greetings make. Both sides compute the same.
pub fn agree(ours: &Hello, theirs: &Hello) -> Result<Session, HandshakeError> {
    let generation = ours.generation.min(theirs.generation);
    if generation < ours.minimum || generation < theirs.minimum {
        return Err(HandshakeError {
            theirs: theirs.generation,
            theirs_minimum: theirs.minimum,
            ours: ours.generation,
            ours_minimum: ours.minimum,
        });
    }
    Ok(Session {
        generation,
        features: ours.features.both(theirs.features),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(minimum: u32, generation: u32, features: u64) -> Hello {
        Hello {
            generation,
            minimum,
            features: Features(features),
        }
    }

    #[test]
    fn the_older_generation_is_spoken_by_both() {
        let (old, new) = (hello(1, 2, 0b011), hello(2, 5, 0b110));
        let session = agree(&old, &new).unwrap();
        assert_eq!(
            session,
            Session {
                generation: 2,
                features: Features(0b010)
            }
        );
        assert_eq!(agree(&new, &old).unwrap(), session);
    }

    #[test]
    fn no_common_generation_says_what_to_do() {
        for (ours, theirs) in [
            (hello(1, 1, 0), hello(2, 3, 0)),
            (hello(2, 3, 0), hello(1, 1, 0)),
        ] {
            let error = agree(&ours, &theirs).unwrap_err().to_string();
            assert!(error.contains("same release"), "{error}");
        }
    }
}
