//! Key files: one line of 64 hexadecimal digits that nobody but its owner may read.
//!
//! Where systemd hands a file of that name over as a credential (`LoadCredential=`), that is read in
//! its place: so the daemon, which is not root there, needs no access to the file itself, and one
//! configuration serves in both ways. systemd shows its credentials as readable by their group,
//! because it gives the service access by an ACL (systemd issue 29435); their folder is closed to all
//! others, so that bit is no reason to refuse them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::wire::seal::{CLUSTER_KEY_BYTES, ClusterKey, Keyring};

/// Mode of a key file that is made.
const MODE: u32 = 0o600;
/// Mode bits that let others at the key.
const OTHERS: u32 = 0o077;
/// The one that a credential of systemd has.
const GROUP_READ: u32 = 0o040;
/// Most bytes that are read of a key file: the digits and some white space.
const FILE_BYTES_MAX: u64 = 256;

/// Why a key file cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system refused.
    #[error(
        "cannot read the key file {path}: {source}; `ctsyncd keygen {path}` makes one, and every node needs the same"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "the key file {path} may be read by others (mode {mode:04o}): run `chmod 600 {path}`, and if others may have read it, make a new key"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds something else.
    #[error(
        "the key file {path} holds no key: one line of 64 hexadecimal digits is expected, as `ctsyncd keygen` writes it"
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// Two keys have the same number.
    #[error(
        "the keys in {primary} and {other} have the same number {id}, by one chance in 255, or are the same: make another key"
    )]
    SameNumber {
        /// One file.
        primary: PathBuf,
        /// The other.
        other: PathBuf,
        /// The number.
        id: u8,
    },
    /// It cannot be written.
    #[error("cannot write the key file {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Reads a key file.
///
/// # Errors
///
/// When it cannot be read, others may read it, or it holds no key.
pub fn load(path: &Path) -> Result<ClusterKey, KeyError> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
    load_or_credential(path, folder.as_deref().map(Path::new))
}

fn load_or_credential(path: &Path, folder: Option<&Path>) -> Result<ClusterKey, KeyError> {
    let credential = folder.zip(path.file_name());
    let credential = credential.map(|(folder, name)| folder.join(name));
    match credential.filter(|credential| credential.is_file()) {
        Some(credential) => read(&credential, OTHERS & !GROUP_READ),
        None => read(path, OTHERS),
    }
}

/// Reads a key file none of whose mode bits is among the forbidden.
fn read(path: &Path, forbidden: u32) -> Result<ClusterKey, KeyError> {
    let unreadable = |source| KeyError::Read {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(KeyError::Mode {
            path: path.into(),
            mode,
        });
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    parse(text.trim_ascii()).ok_or_else(|| KeyError::Form { path: path.into() })
}

/// Reads the key to seal with, and the one that is accepted as well.
///
/// # Errors
///
/// As `load`, and when both have the same number.
pub fn load_ring(primary: &Path, other: Option<&Path>) -> Result<Keyring, KeyError> {
    let ring = Keyring {
        primary: load(primary)?,
        other: other.map(load).transpose()?,
    };
    match (&ring.other, other) {
        (Some(key), Some(other)) if key.id() == ring.primary.id() => Err(KeyError::SameNumber {
            primary: primary.into(),
            other: other.into(),
            id: key.id(),
        }),
        _ => Ok(ring),
    }
}

/// A new key as the line of a key file.
///
/// # Errors
///
/// When the system gives no random numbers.
pub fn generate() -> Result<String, KeyError> {
    let mut bytes = [0; CLUSTER_KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a new key to a file that is not there yet.
///
/// # Errors
///
/// When it is there, or cannot be written.
pub fn write_new(path: &Path) -> Result<(), KeyError> {
    let line = generate()?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
        .and_then(|mut file| writeln!(file, "{line}"))
        .map_err(|source| KeyError::Write {
            path: path.into(),
            source,
        })
}

fn parse(digits: &[u8]) -> Option<ClusterKey> {
    let mut bytes = [0; CLUSTER_KEY_BYTES];
    if digits.len() != 2 * CLUSTER_KEY_BYTES {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(ClusterKey::new(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ctsyncd-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a temporary directory");
            Self(path)
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).expect("is ours");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("is ours");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_key_that_was_made_is_read_and_never_overwritten() {
        let folder = Folder::new("key-made");
        let path = folder.0.join("cluster.key");
        write_new(&path).expect("is not there yet");
        let mode = fs::metadata(&path).expect("is there").mode() & 0o7777;
        assert_eq!(mode, 0o600);
        let key = load(&path).expect("was just made");
        assert!(matches!(write_new(&path), Err(KeyError::Write { .. })));
        assert_eq!(load(&path).expect("is unchanged"), key);
        assert_ne!(generate().expect("random"), generate().expect("random"));
    }

    #[test]
    fn what_others_may_read_and_what_is_no_key_is_refused() {
        let folder = Folder::new("key-bad");
        let good = "0123456789abcdefABCDEF0123456789".repeat(2);
        let path = folder.file("good", &format!("  {good}\n"));
        assert!(load(&path).is_ok());
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("is ours");
            assert!(matches!(load(&path), Err(KeyError::Mode { mode: is, .. }) if is == mode));
        }
        for bad in ["", &good[1..], &format!("{good}0"), &good.replace('0', "g")] {
            let path = folder.file("bad", bad);
            assert!(matches!(load(&path), Err(KeyError::Form { .. })), "{bad:?}");
        }
        assert!(matches!(
            load(&folder.0.join("none")),
            Err(KeyError::Read { .. })
        ));
    }

    #[test]
    fn a_credential_of_that_name_is_read_in_its_place() {
        let folder = Folder::new("key-credential");
        let path = folder.file("cluster.key", &"01".repeat(32));
        let credentials = folder.0.join("credentials");
        fs::create_dir_all(&credentials).expect("is ours");
        let own = load(&path).expect("a key");
        let load = || load_or_credential(&path, Some(&credentials));
        assert_eq!(load().expect("there is no credential"), own);
        let credential = folder.file("credentials/cluster.key", &"02".repeat(32));
        for mode in [0o400, 0o440] {
            fs::set_permissions(&credential, fs::Permissions::from_mode(mode)).expect("is ours");
            assert_ne!(load().expect("as systemd makes it"), own);
        }
        for mode in [0o460, 0o444, 0o404] {
            fs::set_permissions(&credential, fs::Permissions::from_mode(mode)).expect("is ours");
            assert!(matches!(load(), Err(KeyError::Mode { .. })));
        }
    }

    #[test]
    fn two_keys_of_one_number_are_refused() {
        let folder = Folder::new("key-ring");
        let one = folder.file("one", &"01".repeat(32));
        let same = folder.file("same", &"01".repeat(32));
        let other = folder.file("other", &"02".repeat(32));
        assert!(matches!(
            load_ring(&one, Some(&same)),
            Err(KeyError::SameNumber { .. })
        ));
        let ring = load_ring(&one, Some(&other)).expect("different");
        assert_eq!(ring.keys().count(), 2);
    }
}
