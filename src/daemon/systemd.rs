//! What systemd is told (sd_notify(3)), and how often it wants to hear that we live.
//!
//! Without `NOTIFY_SOCKET` in the environment, which is to say without systemd, all of it does
//! nothing.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// The service manager.
#[derive(Debug, Default)]
pub struct Systemd {
    /// The status text that was told last; telling it again would only cost a message.
    told: String,
    /// A message was refused. Said once: a manager that is gone makes every further one fail too.
    deaf: bool,
}

impl Systemd {
    /// The service manager that the environment names, if it names one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that the start is complete: units ordered after ours start now.
    pub fn ready(&mut self, status: &str) {
        self.told = one_line(status);
        let text = self.told.clone();
        self.tell(&[NotifyState::Ready, NotifyState::Status(&text)]);
    }

    /// Sets the line that `systemctl status` shows, if it is another one than before.
    pub fn status(&mut self, status: &str) {
        let text = one_line(status);
        if text != self.told {
            self.tell(&[NotifyState::Status(&text)]);
            self.told = text;
        }
    }

    /// Says that we are about to stop.
    pub fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// Says that we live. To be called at [`watchdog_interval`](Self::watchdog_interval), from
    /// where a hang of what matters would be noticed.
    pub fn alive(&mut self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// How often to call [`alive`](Self::alive): half of the time after which systemd kills us, as
    /// sd_watchdog_enabled(3) recommends. `None` if the unit has no `WatchdogSec=`.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled()
            .map(|limit| limit / 2)
            .filter(|interval| !interval.is_zero())
    }

    fn tell(&mut self, states: &[NotifyState<'_>]) {
        self.on_told(sd_notify::notify(states));
    }

    fn on_told(&mut self, told: io::Result<()>) {
        match told {
            Ok(()) => self.deaf = false,
            Err(error) if !self.deaf => {
                self.deaf = true;
                warn!(%error, "systemd does not take our notifications");
            }
            Err(_) => {}
        }
    }
}

/// A newline would begin a variable of its own in the message.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    /// The environment belongs to the whole process, so a child of this test plays the daemon.
    #[test]
    fn systemd_hears_each_message_once() {
        let path = std::env::temp_dir().join(format!("ctsyncd-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).expect("bind");
        let child = Command::new(std::env::current_exe().expect("we run"))
            .args([
                "--exact",
                "daemon::systemd::tests::plays_the_daemon",
                "--ignored",
            ])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "3000000")
            .env_remove("WATCHDOG_PID")
            .output()
            .expect("the child starts");
        assert!(child.status.success(), "{child:?}");

        manager.set_nonblocking(true).expect("a flag");
        let mut heard = Vec::new();
        let mut message = [0; 256];
        while let Ok(length) = manager.recv(&mut message) {
            heard.push(String::from_utf8_lossy(&message[..length]).into_owned());
        }
        let _ = std::fs::remove_file(&path);
        assert_eq!(
            heard,
            [
                "READY=1\nSTATUS=standby MAINPID=1\n",
                "STATUS=active\n",
                "WATCHDOG=1\n",
                "STOPPING=1\n",
            ]
        );
    }

    #[test]
    #[ignore = "run by systemd_hears_each_message_once"]
    fn plays_the_daemon() {
        let mut systemd = Systemd::new();
        assert_eq!(
            systemd.watchdog_interval(),
            Some(Duration::from_millis(1_500))
        );
        systemd.ready("standby\nMAINPID=1");
        systemd.status("standby\nMAINPID=1");
        systemd.status("active");
        systemd.status("active");
        systemd.alive();
        systemd.stopping();
    }
}
