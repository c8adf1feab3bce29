//! What a machine has done since it was started, as numbers that only grow.

use serde::{Deserialize, Serialize};

/// The counters of one machine.
///
/// Fields that the sender does not know are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Of each disk, in the order of [`VmConfig::disk`](crate::VmConfig::disk).
    pub disks: Vec<DiskCounters>,
    /// CPU time of all vCPU threads together, in nanoseconds: inside the guest, and in serving what
    /// the guest wants of the outside.
    pub vcpu_time_ns: u64,
}

/// The counters of one disk: what was served with success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskCounters {
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes that were written; ranges that were discarded or zeroed do not count.
    pub write_bytes: u64,
    /// Requests to read.
    pub read_ops: u64,
    /// Requests to write.
    pub write_ops: u64,
    /// Requests to make what was written durable.
    pub flushes: u64,
}

#[cfg(test)]
mod tests {
    use crate::{Counters, Event, FromVmm, Reply, Request, ToVmm, VmState};

    #[test]
    fn a_life_with_pauses_in_json() {
        for (request, name) in [
            (Request::Pause, "pause"),
            (Request::Resume, "resume"),
            (Request::Counters, "counters"),
        ] {
            let message = ToVmm { id: 1, request };
            let text = format!(r#"{{"id":1,"request":"{name}"}}"#);
            assert_eq!(serde_json::to_string(&message).unwrap(), text);
            assert_eq!(serde_json::from_str::<ToVmm>(&text).unwrap(), message);
        }
        for (message, text) in [
            (FromVmm::Event(Event::Paused), r#"{"event":"paused"}"#),
            (FromVmm::Event(Event::Resumed), r#"{"event":"resumed"}"#),
            (
                FromVmm::Reply {
                    id: 2,
                    reply: Reply::State(VmState::Paused),
                },
                r#"{"reply":{"id":2,"reply":{"state":"paused"}}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&message).unwrap(), text);
            assert_eq!(serde_json::from_str::<FromVmm>(text).unwrap(), message);
        }
    }

    #[test]
    fn counters_that_are_not_known_are_zero() {
        let text = r#"{"disks":[{"read_bytes":512,"read_ops":1},{}]}"#;
        let counters: Counters = serde_json::from_str(text).unwrap();
        assert_eq!(counters.disks[0].read_bytes, 512);
        assert_eq!((counters.disks[1].flushes, counters.vcpu_time_ns), (0, 0));
        let reply = Reply::Counters(counters);
        let again = serde_json::from_str(&serde_json::to_string(&reply).unwrap()).unwrap();
        assert_eq!(reply, again);
    }
}
