//! Conditions are awaited with a deadline, never slept for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Result, bail};

/// Somebody pressed Ctrl-C: every wait ends, and the guards clean up on the way out.
static CANCELLED: AtomicBool = AtomicBool::new(false);

/// A wait was in vain: the programs that end now show their last lines.
static FAILED: AtomicBool = AtomicBool::new(false);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Makes every wait of this process end with an error.
pub(crate) fn cancel() {
    CANCELLED.store(true, Ordering::SeqCst);
}

/// True after [`cancel`].
pub(crate) fn is_cancelled() -> bool {
    CANCELLED.load(Ordering::SeqCst)
}

/// True after a wait in vain, until [`forget_failure`].
pub(crate) fn has_failed() -> bool {
    FAILED.load(Ordering::SeqCst)
}

/// A new test begins.
pub(crate) fn forget_failure() {
    FAILED.store(false, Ordering::SeqCst);
}

/// Waits until `condition` yields a value, at most `limit`.
///
/// # Errors
///
/// When the time is over, with what was awaited; when the process was told to stop; when the
/// condition itself fails.
pub(crate) fn await_some<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if is_cancelled() {
            bail!("interrupted while waiting for: {what}");
        }
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() > limit {
            FAILED.store(true, Ordering::SeqCst);
            bail!("not within {limit:?}: {what}");
        }
        thread::sleep(POLL);
    }
}

/// Waits until `condition` holds, at most `limit`.
///
/// # Errors
///
/// As [`await_some`].
pub(crate) fn await_until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    await_some(what, limit, || Ok(condition()?.then_some(())))
}

/// Lets `duration` pass, for stories that show something for a while.
///
/// # Errors
///
/// When the process was told to stop.
pub(crate) fn pass(duration: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < duration {
        if is_cancelled() {
            bail!("interrupted");
        }
        thread::sleep(POLL.min(duration));
    }
    Ok(())
}
