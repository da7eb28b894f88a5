//! Lines as keepalived 2.2.7 wrote them, and what no keepalived writes.

use proptest::prelude::*;

use super::*;

fn instance(kind: &str, name: &str, state: InstanceState) -> Result<Command, Refusal> {
    Ok(Command::Instance {
        via: Via::Fifo,
        instance: (kind.into(), name.into()),
        state,
    })
}

#[test]
fn every_line_means_what_keepalived_says_or_is_refused_for_a_reason() {
    use InstanceState::{Backup, Fault, Master, Stop, Unchanged};
    let cases: [(&[u8], _); 17] = [
        (
            b"INSTANCE \"VI_1\" MASTER 150",
            instance("INSTANCE", "VI_1", Master),
        ),
        (b"GROUP \"g\" BACKUP 0", instance("GROUP", "g", Backup)),
        (b"GROUP \"g\" FAULT 0", instance("GROUP", "g", Fault)),
        (
            b"INSTANCE \"VI\" STOP 150",
            instance("INSTANCE", "VI", Stop),
        ),
        (
            b"INSTANCE \"VI\" MASTER_RX_LOWER_PRI 150",
            instance("INSTANCE", "VI", Unchanged),
        ),
        (b"GROUP \"g\" MASTER", instance("GROUP", "g", Master)),
        (
            b"INSTANCE \"in \"side\"\" MASTER 1",
            instance("INSTANCE", "in \"side\"", Master),
        ),
        (b"", Err(Refusal::OtherKind)),
        (b"MASTER", Err(Refusal::OtherKind)),
        (b"VS [192.168.201.15]:tcp:80 UP", Err(Refusal::OtherKind)),
        (b"instance \"VI\" MASTER 1", Err(Refusal::OtherKind)),
        (b"INSTANCE VI MASTER 1", Err(Refusal::NoName)),
        (b"INSTANCE \"VI MASTER 1", Err(Refusal::NoName)),
        (b"INSTANCE \"\" MASTER 1", Err(Refusal::NoName)),
        (b"INSTANCE \"VI\" MAS", Err(Refusal::UnknownState)),
        (b"INSTANCE \"VI\"", Err(Refusal::UnknownState)),
        (b"INSTANCE \"\xff\" MASTER 1", Err(Refusal::NotText)),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(line), expected, "{:?}", String::from_utf8_lossy(line));
    }
}

proptest! {
    #[test]
    fn any_line_is_read_or_refused(line in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse(&line);
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ctsyncd-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

fn count(counters: &FifoCounters, name: &str) -> u64 {
    let list = counters.list();
    let found = list.iter().find(|(path, _)| path == name);
    found.expect("a counter of that name").1
}

#[test]
fn half_lines_long_lines_and_writers_that_come_and_go_end_nothing() {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;
    let folder = Folder::new("fifo");
    let path = folder.0.join("keepalived.fifo");
    run(async {
        let fifo = Fifo::open(&path).expect("is made");
        let mode = std::fs::metadata(&path).expect("is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let (orders_in, mut orders) = tokio::sync::mpsc::channel(16);
        let counters = Arc::new(FifoCounters::default());
        let listening = {
            let counters = Arc::clone(&counters);
            let asker = Asker::new(orders_in);
            tokio::spawn(async move { fifo.listen(asker, &counters).await })
        };
        let write = |text: &[u8]| {
            let mut options = std::fs::OpenOptions::new();
            let mut writer = options.write(true).open(&path).expect("has a reader");
            writer.write_all(text).expect("has room");
        };
        let reopened = |times: u64| {
            let counters = Arc::clone(&counters);
            async move {
                while count(&counters, "fifo.opened") < times {
                    tokio::task::yield_now().await;
                }
            }
        };
        write(b"INSTANCE \"VI\" MAS");
        reopened(2).await;
        write(&[&[b'x'; 5000][..], b"\nGROUP \"g\" MASTER 0\n"].concat());
        let order = orders.recv().await.expect("the line after the long one");
        assert_eq!(
            Ok(order.command),
            instance("GROUP", "g", InstanceState::Master)
        );
        reopened(3).await;
        // keepalived removes what it has made itself; then there is a new one.
        let mut options = std::fs::OpenOptions::new();
        let keepalived = options.write(true).open(&path).expect("has a reader");
        std::fs::remove_file(&path).expect("is there");
        drop(keepalived);
        reopened(4).await;
        write(b"GROUP \"g\" BACKUP 0\n");
        let order = orders.recv().await.expect("a line through the new FIFO");
        assert_eq!(
            Ok(order.command),
            instance("GROUP", "g", InstanceState::Backup)
        );
        assert_eq!(count(&counters, "fifo.refused.half_line"), 1);
        assert_eq!(count(&counters, "fifo.refused.too_long"), 1);
        listening.abort();
    });
}

#[test]
fn a_file_in_the_place_of_the_fifo_is_refused_in_words() {
    let folder = Folder::new("no-fifo");
    let path = folder.0.join("file");
    std::fs::write(&path, b"").expect("is writable");
    let error = run(async { Fifo::open(&path).expect_err("is a file") });
    assert!(
        error.to_string().contains("is there and is no FIFO"),
        "{error:#}"
    );
}
