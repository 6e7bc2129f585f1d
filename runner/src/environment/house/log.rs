//! Where what programs write goes: to the report, and to who has asked for telemetry.

use std::time::Duration;

use crate::environment::logs::Piece;
use crate::environment::telemetry::{Source, Telemetry};
use crate::lambda::Program;
use crate::report::{OutputStream, Report};

/// Where what is written goes.
pub(super) struct Log<'a> {
    pub(super) report: &'a mut Report,
    pub(super) telemetry: &'a mut Telemetry,
    pub(super) now: Duration,
}

impl Log<'_> {
    pub(super) fn take(&mut self, program: &Program, piece: Piece) {
        match piece {
            Piece::Plain(stream, bytes) => {
                let source = match program {
                    Program::Runtime => Source::Function,
                    Program::Extension(name) => Source::Extension { name: name.clone() },
                };
                self.telemetry.output(&source, &bytes, self.now);
                self.report.output(stream, bytes);
            }
            Piece::Record(record) => {
                self.telemetry.record(&record, self.now);
                let begins = record.begins;
                let lines = record.into_lines();
                if begins {
                    self.report.record(OutputStream::Stdout, lines)
                } else {
                    self.report.more_of_record(OutputStream::Stdout, lines)
                }
            }
        }
    }
}
