//! Ctrl-C and its kin make every wait end; the guards then clean up.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{Error, Result, wait};

/// Says how a program failed, and yields what it exits with: 130 if somebody pressed Ctrl-C, as a shell has
/// it.
pub(crate) fn exit_code(error: &Error, say: impl Fn(&str)) -> ExitCode {
    if wait::is_cancelled() {
        say(&format!("stopped and cleaned up ({error})"));
        ExitCode::from(130)
    } else {
        say(&format!("{error:#}"));
        ExitCode::FAILURE
    }
}

/// Listens from now on, until the process ends.
pub(crate) fn listen() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut signals = {
        let _inside = runtime.enter();
        [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ]
        .map(signal)
        .into_iter()
        .collect::<std::io::Result<Vec<_>>>()?
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let [interrupt, terminate, hangup] = &mut signals[..] else {
                    return;
                };
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    wait::cancel();
                }
            });
        })?;
    Ok(())
}
