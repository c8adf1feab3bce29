//! A random walk through a sandbox's life: which step comes next, how it is taken, and which
//! errors are no fault of anybody's.
//!
//! The steps are drawn from the seed alone, whatever becomes of each, so the same seed always
//! gives the same walk. Many a step then does not go with the state that the sandbox is in: that is
//! part of the test, since each has to be refused by the error that says so.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use microsandbox::{BootErrorKind, MicrosandboxError, MicrosandboxResult, Sandbox};

/// How long any one step may take. Never reached, or something hangs.
pub const STEP_DEADLINE: Duration = Duration::from_secs(180);

/// What a stop and a kill are given: a machine that is emulated and shared may be slow.
const ENDING: Duration = Duration::from_secs(60);

/// What a command is given. One in a sandbox that is paused answers only later.
const COMMAND: Duration = Duration::from_secs(25);

/// One thing that a program does with a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes it.
    Create {
        /// It outlives the program.
        detached: bool,
        /// Nothing of it stays.
        ephemeral: bool,
        /// It takes the place of another.
        replace: bool,
    },
    /// Boots it again.
    Start {
        /// It outlives the program.
        detached: bool,
    },
    /// Runs a command in it.
    Exec,
    /// Has it end gracefully.
    Stop,
    /// Stops its processors.
    Pause,
    /// Sets them running again.
    Resume,
    /// Has it end after its last command.
    Drain,
    /// Ends it at once.
    Kill,
    /// Lets go of it, which ends it if it is the program's.
    Drop,
    /// Lets go of it, and lets it live.
    Detach,
    /// Removes what is left of it.
    Remove,
    /// Looks at it.
    Get,
    /// Looks at all.
    List,
}

impl Step {
    /// The next step. More of them end a sandbox than begin one, so that of many sandboxes only
    /// few run at once.
    pub fn random(random: &mut fastrand::Rng) -> Self {
        // Drawn always, so that a walk does not depend on what each kind of step draws.
        let (detached, ephemeral, replace) =
            (random.bool(), random.u8(..4) == 0, random.u8(..4) == 0);
        match random.u8(..30) {
            0..4 => Self::Create {
                detached,
                ephemeral,
                replace,
            },
            4..7 => Self::Start { detached },
            7..11 => Self::Exec,
            11..15 => Self::Stop,
            15..17 => Self::Kill,
            17..19 => Self::Drain,
            19..21 => Self::Drop,
            21 => Self::Detach,
            22 => Self::Pause,
            23..25 => Self::Resume,
            25..28 => Self::Remove,
            28 => Self::Get,
            _ => Self::List,
        }
    }

    /// The same step on a sandbox whose record comes and goes by a create and a remove alone.
    #[must_use]
    pub fn plain(self) -> Self {
        match self {
            Self::Create { detached, .. } => Self::Create {
                detached,
                ephemeral: false,
                replace: false,
            },
            other => other,
        }
    }
}

/// What a program may have to reckon with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Other programs use the same sandboxes.
    pub crowd: bool,
    /// Somebody has killed a supervisor or a VMM.
    pub hurt: bool,
}

impl Weather {
    /// Whether `error` is one that the step may meet, and not a fault.
    pub fn excuses(self, step: Step, error: &MicrosandboxError) -> bool {
        use MicrosandboxError as E;
        let regular = match step {
            Step::Create { replace: false, .. } => matches!(error, E::SandboxAlreadyExists(_)),
            Step::Create { replace: true, .. } => {
                self.crowd
                    && matches!(
                        error,
                        E::SandboxAlreadyExists(_) | E::SandboxStillRunning(_)
                    )
            }
            Step::Start { .. } | Step::Remove => {
                matches!(error, E::SandboxNotFound(_) | E::SandboxStillRunning(_))
            }
            Step::Exec => {
                let gone = matches!(error, E::SandboxNotFound(_) | E::SandboxNotRunning { .. });
                // Another may pause or end it in between.
                gone || self.crowd && matches!(error, E::ExecTimeout(_) | E::Protocol(_))
            }
            Step::Pause | Step::Resume | Step::Drain => {
                matches!(error, E::SandboxNotFound(_) | E::SandboxNotRunning { .. })
            }
            Step::Stop | Step::Kill | Step::Get => matches!(error, E::SandboxNotFound(_)),
            Step::Drop | Step::Detach | Step::List => false,
        };
        regular || self.crowd && is_called_off(step, error) || self.hurt && is_hurt(step, error)
    }
}

/// Whether another program ended the sandbox, or took it, while it came up.
fn is_called_off(step: Step, error: &MicrosandboxError) -> bool {
    let boots = matches!(step, Step::Create { .. } | Step::Start { .. });
    boots
        && matches!(error, MicrosandboxError::BootStart { err, .. }
            if matches!(err.kind, BootErrorKind::Cancelled | BootErrorKind::AlreadyRunning))
}

/// Whether a supervisor or VMM that is killed at this step explains the error.
fn is_hurt(step: Step, error: &MicrosandboxError) -> bool {
    use MicrosandboxError as E;
    match error {
        E::SandboxAlreadyExists(_)
        | E::SandboxStillRunning(_)
        | E::SandboxNotFound(_)
        | E::SandboxNotRunning { .. } => true,
        E::BootStart { .. } => matches!(step, Step::Create { .. } | Step::Start { .. }),
        // It did not answer, or not any more.
        E::Runtime(_) | E::Io(_) => !matches!(step, Step::Get | Step::List | Step::Remove),
        E::Protocol(_) | E::ExecTimeout(_) | E::ExecFailed(_) => step == Step::Exec,
        _ => false,
    }
}

/// A program that walks.
#[derive(Debug, Default)]
pub struct Walker {
    held: HashMap<String, Sandbox>,
}

impl Walker {
    /// Takes a step with the sandbox `name`, whose root disk is `disk`.
    pub async fn take(&mut self, step: Step, name: &str, disk: &Path) -> MicrosandboxResult<()> {
        match step {
            Step::Create {
                detached,
                ephemeral,
                replace,
            } => {
                let mut builder = Sandbox::builder(name)
                    .image(disk.to_path_buf())
                    .memory(64u32)
                    .ephemeral(ephemeral)
                    .detached(detached);
                if replace {
                    builder = builder.replace_with_timeout(ENDING);
                }
                let sandbox = builder.create().await?;
                self.held.insert(name.to_owned(), sandbox);
            }
            Step::Start { detached } => {
                let handle = Sandbox::get(name).await?;
                let sandbox = match detached {
                    true => handle.start_detached().await?,
                    false => handle.start().await?,
                };
                self.held.insert(name.to_owned(), sandbox);
            }
            Step::Exec => {
                let sandbox = Sandbox::get(name).await?.connect().await?;
                let slow = |options: microsandbox::ExecOptionsBuilder| {
                    options.args(["-c", "sleep 0.2"]).timeout(COMMAND)
                };
                sandbox.exec_with("sh", slow).await?;
            }
            Step::Stop => {
                let handle = Sandbox::get(name).await?;
                handle.stop_with_timeout(ENDING).await?;
            }
            Step::Pause => Sandbox::get(name).await?.pause().await?,
            Step::Resume => Sandbox::get(name).await?.resume().await?,
            Step::Drain => Sandbox::get(name).await?.drain().await?,
            Step::Kill => {
                // Without the escalation of `kill`, which would hurt a supervisor that is slow.
                let handle = Sandbox::get(name).await?;
                handle.request_kill().await?;
                handle.wait_until_stopped().await?;
            }
            Step::Drop => drop(self.held.remove(name)),
            Step::Detach => {
                if let Some(sandbox) = self.held.remove(name) {
                    sandbox.detach().await;
                }
            }
            Step::Remove => Sandbox::remove(name).await?,
            Step::Get => drop(Sandbox::get(name).await?),
            Step::List => drop(Sandbox::list().await?),
        }
        Ok(())
    }
}
