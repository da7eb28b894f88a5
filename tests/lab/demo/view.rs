//! The moving part of the terminal: a few lines that are drawn over and over. In a pipe, one line
//! per step instead.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Cells of the curve of answers.
const CURVE: usize = 60;
/// Time in one cell of the curve.
pub(crate) const CELL: Duration = Duration::from_millis(100);

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// What a firewall looks like from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Light {
    /// Carries the traffic.
    Active,
    /// Waits.
    Standby,
    /// Its cables are pulled.
    Dead,
}

/// What is shown at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// The firewalls.
    pub(crate) lights: [Light; 2],
    /// Connections that are answered, of all.
    pub(crate) talking: usize,
    /// All.
    pub(crate) connections: usize,
    /// What both firewalls know of the flows; `None` while fw1 cannot be asked about them.
    pub(crate) flows: String,
    /// True if both agree.
    pub(crate) agree: bool,
}

/// The screen.
#[derive(Debug)]
pub(crate) struct View {
    is_terminal: bool,
    start: Instant,
    title: String,
    /// Answers in each of the last cells.
    curve: VecDeque<u64>,
    /// The highest cell so far, in which the curve is measured.
    peak: u64,
    frozen: bool,
    step: String,
    drawn: usize,
}

impl View {
    /// An empty screen.
    pub(crate) fn new(title: String) -> Self {
        let view = Self {
            is_terminal: std::io::stdout().is_terminal(),
            start: Instant::now(),
            title,
            curve: VecDeque::with_capacity(CURVE),
            peak: 1,
            frozen: false,
            step: String::new(),
            drawn: 0,
        };
        if !view.is_terminal {
            put(&format!("{}\n", view.title));
        }
        view
    }

    /// The story goes on.
    pub(crate) fn step(&mut self, text: &str) {
        text.clone_into(&mut self.step);
        if self.is_terminal {
            if self.drawn == 0 {
                put(&format!("\r\x1b[2K  {DIM}{text}{PLAIN}"));
            }
        } else {
            let seconds = self.start.elapsed().as_secs_f64();
            put(&format!("{seconds:6.2} s  {text}\n"));
        }
    }

    /// One more cell of the curve.
    pub(crate) fn push(&mut self, answers: u64) {
        if self.curve.len() == CURVE {
            self.curve.pop_front();
        }
        self.curve.push_back(answers);
        if !self.frozen {
            self.peak = self.peak.max(answers);
        }
    }

    /// From now on the scale of the curve stays: the burst after a stall must not flatten the rest.
    pub(crate) fn freeze(&mut self) {
        self.frozen = true;
    }

    /// Draws the scene over the last one.
    pub(crate) fn draw(&mut self, scene: &Scene) {
        if !self.is_terminal {
            return;
        }
        let lines = self.lines(scene);
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in &lines {
            text.push_str(&format!("\r\x1b[2K{line}\n"));
        }
        self.drawn = lines.len();
        put(&text);
    }

    fn lines(&self, scene: &Scene) -> Vec<String> {
        let [one, two] = scene.lights.map(light);
        let whole = scene.talking == scene.connections;
        let colour = if whole { GREEN } else { RED };
        let agreement = if scene.agree { GREEN } else { YELLOW };
        vec![
            String::new(),
            format!("  {BOLD}{}{PLAIN}", self.title),
            String::new(),
            format!("             ┌── fw1  {one} ──┐"),
            "    client ──┤                  ├── server".to_owned(),
            format!("             └── fw2  {two} ──┘"),
            String::new(),
            format!(
                "  connections   {colour}{} of {} answered{PLAIN}  {}",
                scene.talking,
                scene.connections,
                bar(scene.talking, scene.connections, colour)
            ),
            format!("  flows         {agreement}{}{PLAIN}", scene.flows),
            format!("  answers       {}", self.curve_text()),
            format!(
                "  {DIM}{:5.1} s{PLAIN}       {BOLD}{}{PLAIN}",
                self.start.elapsed().as_secs_f64(),
                self.step
            ),
        ]
    }

    fn curve_text(&self) -> String {
        const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let mut text = String::from(GREEN);
        for &answers in &self.curve {
            if answers == 0 {
                text.push_str(&format!("{RED}_{GREEN}"));
                continue;
            }
            let index = usize::try_from(answers * 8 / (self.peak + 1)).unwrap_or(7);
            text.push(STEPS[index.min(7)]);
        }
        text.push_str(PLAIN);
        text
    }
}

fn light(light: Light) -> String {
    match light {
        Light::Active => format!("{GREEN}● active {PLAIN}"),
        Light::Standby => format!("{DIM}○ standby{PLAIN}"),
        Light::Dead => format!("{RED}✗ dead   {PLAIN}"),
    }
}

fn bar(part: usize, whole: usize, colour: &str) -> String {
    const WIDTH: usize = 30;
    let filled = part * WIDTH / whole.max(1);
    format!(
        "{colour}{}{DIM}{}{PLAIN}",
        "█".repeat(filled),
        "░".repeat(WIDTH - filled)
    )
}

/// Writes to the terminal. A reader that has gone away is not our problem.
pub(crate) fn put(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}
