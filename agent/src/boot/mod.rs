//! From the first instruction of PID 1 to a guest that serves commands.
//!
//! ```text
//! first_steps   standard streams, /dev
//! init          dial the supervisor ── while it answers: /proc, /sys and what hangs below them
//!                 │ answered                          │ nobody there, or no vsock at all
//!               its Boot request                    defaults: /dev/vda or /dev/pmem0, if there is one
//!                 └──────────────┬────────────────────┘
//!               root found, mounted, made /; host name, loopback, memory, scripts
//!                 │                                   │
//!               PID 1 handed on to the root's init, if that is wanted; port opened
//!                 │                                   │
//!               Ready, then Shutdown or its loss    the power button, or the console's shell
//!                 └──────────────┬────────────────────┘
//!               every process ended, disks synced, power off
//! ```
//!
//! Nothing on the way waits for a fixed time, and nothing ends PID 1: what fails is said, to
//! the supervisor if there is one and to the console, and the power is turned off.
//!
//! An image is as hostile as what runs in it. It may be anything but a guest that hangs here: its
//! links and devices lead to an error that is told, or are left alone.

mod call;
mod console;
mod disks;
mod files;
mod handoff;
mod host;
mod hosts;
mod in_place;
mod memory;
mod mounts;
pub(crate) mod overlay;
mod restrict;
mod root;
mod scripts;
mod serve;
mod settings;
mod signals;
mod switch;
mod upper;
mod wanted;
mod xattrs;

use std::fmt::Display;
use std::io;
use std::rc::Rc;

use msb_protocol::{BootFailure, BootRequest, BootStage, Root, SUPERVISOR_PORT};
use rustix::time::{ClockId, clock_gettime};

use crate::agent::Agent;
use crate::devices;
use crate::exec::Defaults;
use crate::log;
use crate::shutdown::{Order, end_processes, end_with_init, power_off};

pub use mounts::first_steps;
use wanted::Wanted;

/// Time since the kernel started (`CLOCK_BOOTTIME`), in nanoseconds.
pub fn clock_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000) + nanoseconds
}

/// A boot that stopped.
#[derive(Debug)]
pub(crate) struct BootError {
    stage: BootStage,
    message: String,
    errno: Option<i32>,
}

impl BootError {
    /// `what` says what was being done; `error` is what the kernel answered.
    fn new(stage: BootStage, what: impl Display, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self {
            stage,
            message: format!("{what}: {error}"),
            errno: error.raw_os_error(),
        }
    }

    fn of(stage: BootStage, message: impl Into<String>) -> Self {
        Self {
            stage,
            message: message.into(),
            errno: None,
        }
    }

    fn log(&self) {
        log::error(&format!("the boot stopped: {}", self.message));
    }
}

impl From<BootError> for BootFailure {
    fn from(error: BootError) -> Self {
        Self {
            stage: error.stage,
            message: error.message,
            errno: error.errno,
        }
    }
}

/// All of PID 1's life. `began` is [`clock_ns`] at its start.
pub async fn init(began: u64) -> ! {
    let order = Rc::new(Order::default());
    let dialing = call::dial(SUPERVISOR_PORT);
    let mounted = mounts::system();
    log::to_kernel();
    if let Err(error) = signals::obey(&order) {
        log::error(&format!("the power button is not heard: {error}"));
    }
    let host = match dialing {
        Ok(dialing) => dialing.answer().await,
        Err(silence) => Err(silence),
    };
    let agent = match host {
        Ok(channel) => host::serve(channel, mounted, began, &order).await,
        Err(silence) => alone(mounted, silence, &order).await,
    };
    if let Some(agent) = agent {
        order.given().await;
        log::info("shutting down");
        if std::process::id() == 1 {
            end_processes(&agent, &order, true).await;
        } else {
            end_with_init(&agent, &order, handoff::farewell()).await;
        }
    }
    power_off()
}

/// Brings up what `request` and the settings ask for. Returns the old root, to be freed when there
/// is time.
async fn bring_up(
    request: &BootRequest,
    wanted: &mut Wanted,
) -> Result<Option<switch::OldRoot>, BootError> {
    wanted.check()?;
    let old = match &request.root {
        Root::Initramfs => None,
        Root::Disk {
            device,
            fstype,
            read_only,
        } => {
            root::mount(device, fstype.as_deref(), *read_only, root::APPEARS).await?;
            Some(switch::switch_root()?)
        }
        Root::Overlay {
            lower,
            fstype,
            upper,
        } => {
            let lower = overlay::Lower::Serial(lower);
            overlay::mount_disks(lower, fstype.as_deref(), upper, root::APPEARS).await?;
            Some(switch::switch_root()?)
        }
        Root::Mapped {
            lower,
            fstype,
            upper,
        } => {
            let lower = overlay::Lower::Device(lower);
            overlay::mount_disks(lower, fstype.as_deref(), upper, root::APPEARS).await?;
            Some(switch::switch_root()?)
        }
        _ => {
            return Err(BootError::of(
                BootStage::Root,
                "this agent does not know the kind of root that was asked for; use a library \
                 and a guest initramfs of the same release",
            ));
        }
    };
    mounts::for_root();
    settings::apply(request)?;
    devices::keep().map_err(|error| BootError::new(BootStage::Settings, "opening /dev", error))?;
    hosts::name(request.hostname.as_deref());
    if let (Some(_), Some(name)) = (&wanted.init, &request.hostname) {
        hosts::name_for_init(name);
    }
    wanted.apply()?;
    Ok(old)
}

/// Brings up a guest that nobody supervises.
async fn alone(
    mounted: Result<(), BootError>,
    silence: call::Silence,
    order: &Rc<Order>,
) -> Option<Rc<Agent>> {
    let up = async {
        mounted?;
        let old = bring_up(&root::default_request(), &mut Wanted::default()).await?;
        let agent = start_agent(defaults(Vec::new()))?;
        match silence {
            call::Silence::Nobody => {
                serve::serve(&agent)?;
                log::info("no supervisor: serving commands all the same");
            }
            call::Silence::NoVsock => {
                log::info("no vsock device: no commands can be served");
                console::serve(&agent, Rc::clone(order));
            }
        }
        if let Some(old) = old {
            old.free();
        }
        Ok(agent)
    };
    up.await.map_err(|error: BootError| error.log()).ok()
}

/// What PID 1 hands to its commands. To be called once: it raises the agent's own limits.
fn defaults(env: Vec<(String, String)>) -> Defaults {
    Defaults {
        env,
        open_files: settings::raise_open_files(),
        ..Defaults::default()
    }
}

fn start_agent(defaults: Defaults) -> Result<Rc<Agent>, BootError> {
    Agent::start(defaults)
        .map_err(|error| BootError::new(BootStage::Serve, "listening to SIGCHLD", error))
}
