//! What the host cannot do for a disk, as the VMM says it, and as it is repeated.
//!
//! The guest sees an I/O error and no more. Why, is said where its owner looks: in the sandbox's log, and in what a boot
//! failed of. But a guest may own the VMM and say anything, as often as it likes; so few are repeated, of
//! each the beginning, and nothing of it that a terminal would take for more than text.

/// How often something is said in a run: each disk has few reasons, of which an honest VMM tells each once.
const MAX_TOLD: usize = 16;

/// Most characters of a reason.
const MAX_REASON: usize = 120;

/// The trouble of one run.
#[derive(Debug)]
pub(super) struct DiskTrouble {
    /// The names of the disks, in the order in which the VMM counts them.
    disks: Vec<&'static str>,
    told: usize,
    first: Option<String>,
}

impl DiskTrouble {
    /// None so far.
    pub(super) fn new(disks: Vec<&'static str>) -> Self {
        Self {
            disks,
            told: 0,
            first: None,
        }
    }

    /// What is to be said of this, if anything.
    pub(super) fn hear(&mut self, disk: u32, reason: &str) -> Option<String> {
        if self.told >= MAX_TOLD {
            return None;
        }
        self.told += 1;
        let name = usize::try_from(disk)
            .ok()
            .and_then(|disk| self.disks.get(disk).copied())
            .unwrap_or("unknown");
        let plain = |c: char| match c {
            ' '..='~' => c,
            _ => '?',
        };
        let reason: String = reason.chars().take(MAX_REASON).map(plain).collect();
        let said = format!("the host could not serve the disk {name:?}: {reason}");
        self.first.get_or_insert_with(|| said.clone());
        Some(said)
    }

    /// What was said first.
    pub(super) fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_is_kept_and_each_is_said() {
        let mut trouble = DiskTrouble::new(vec!["root", "upper"]);
        assert_eq!(trouble.first(), None);
        let full = "No space left on device (os error 28)";
        let said = trouble.hear(1, full).unwrap();
        assert_eq!(
            said,
            format!("the host could not serve the disk \"upper\": {full}")
        );
        assert!(trouble.hear(0, "other").unwrap().contains("\"root\""));
        assert_eq!(trouble.first(), Some(&*said));
    }

    #[test]
    fn a_vmm_that_a_guest_owns_is_not_repeated_word_for_word_nor_for_ever() {
        let mut trouble = DiskTrouble::new(vec!["root"]);
        let said = trouble
            .hear(u32::MAX, &"\x1b[2J\nnot ours \u{202e}".repeat(1000))
            .unwrap();
        assert!(said.contains("\"unknown\": ?[2J?not ours ?"), "{said}");
        assert!(said.len() < 2 * MAX_REASON, "{said}");
        let more = (0..1000).filter_map(|_| trouble.hear(0, "again")).count();
        assert_eq!(more, MAX_TOLD - 1);
    }
}
