//! How a pull is told: bars on a terminal, plain lines elsewhere, nothing when nothing is wanted.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use rootfs_cache::digest::Digest;
use rootfs_cache::pull::PullEvent;

use crate::config::{Loudness, Talk};

/// Tells the events of a pull on stderr.
pub(super) enum Progress {
    Silent,
    Lines,
    Bars(Bars),
}

/// One bar for each layer that is being fetched. A pull's events come from several tasks, hence the lock.
pub(super) struct Bars {
    screen: MultiProgress,
    layers: Mutex<Vec<(Digest, ProgressBar)>>,
}

impl Progress {
    pub(super) fn new(talk: Talk) -> Self {
        match talk.loudness {
            Loudness::Quiet => Self::Silent,
            Loudness::Normal if std::io::stderr().is_terminal() => {
                Self::Bars(Bars { screen: MultiProgress::new(), layers: Mutex::new(Vec::new()) })
            }
            Loudness::Normal => Self::Lines,
        }
    }

    pub(super) fn tell(&self, event: PullEvent<'_>) {
        if let Self::Bars(bars) = self {
            bars.draw(event);
        }
        if let Some(line) = line(event) {
            self.say(&line, event);
        }
    }

    fn say(&self, line: &str, event: PullEvent<'_>) {
        match self {
            Self::Silent => {}
            Self::Lines => write_line(line),
            // What the bars show need not be said.
            Self::Bars(_)
                if matches!(event, PullEvent::LayerStarted { .. } | PullEvent::LayerDone { .. } | PullEvent::LayerWaiting { .. }) => {}
            Self::Bars(bars) => bars.screen.suspend(|| write_line(line)),
        }
    }
}

fn write_line(line: &str) {
    // Whoever closed stderr wants no talk.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn line(event: PullEvent<'_>) -> Option<String> {
    match event {
        PullEvent::Resolving { reference } => Some(format!("Pulling {reference}")),
        PullEvent::LayerWaiting { digest } => Some(format!("{}: another process is fetching it", short(&digest))),
        PullEvent::LayerStarted { digest, size } => Some(format!("{}: fetching {}", short(&digest), HumanBytes(size))),
        PullEvent::LayerDone { digest } => Some(format!("{}: done", short(&digest))),
        PullEvent::Note(text) => Some(format!("Note: {text}")),
        PullEvent::Done { manifest } => Some(format!("Pulled {manifest}")),
        PullEvent::Resolved { .. } | PullEvent::LayerPresent { .. } | PullEvent::LayerProgress { .. } => None,
    }
}

impl Bars {
    fn draw(&self, event: PullEvent<'_>) {
        // A panic elsewhere leaves bars that are still good enough to draw.
        let mut layers = self.layers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            PullEvent::LayerStarted { digest, size } => {
                let bar = self.screen.add(ProgressBar::new(size).with_style(style()).with_prefix(short(&digest)));
                layers.push((digest, bar));
            }
            PullEvent::LayerWaiting { digest } => {
                let bar = ProgressBar::no_length().with_style(waiting()).with_prefix(short(&digest));
                layers.push((digest, self.screen.add(bar)));
            }
            PullEvent::LayerProgress { digest, bytes } => {
                layers.iter().filter(|(layer, _)| *layer == digest).for_each(|(_, bar)| bar.set_position(bytes));
            }
            PullEvent::LayerDone { digest } | PullEvent::LayerPresent { digest } => {
                layers.iter().filter(|(layer, _)| *layer == digest).for_each(|(_, bar)| bar.finish_and_clear());
            }
            PullEvent::Resolving { .. } | PullEvent::Resolved { .. } | PullEvent::Note(_) | PullEvent::Done { .. } => {}
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} [{bar:30}] {bytes:>10}/{total_bytes:10} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn waiting() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} another process is fetching it").unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// As much of a digest as tells layers apart.
fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let digest = Digest::of(b"");
        assert_eq!(line(PullEvent::LayerStarted { digest, size: 3 << 20 }).unwrap(), "e3b0c44298fc: fetching 3.00 MiB");
        assert_eq!(line(PullEvent::Note("pinned")).unwrap(), "Note: pinned");
        assert_eq!(line(PullEvent::LayerProgress { digest, bytes: 1 }), None);
    }
}
