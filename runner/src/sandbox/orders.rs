//! What the launching thread and the child share: the orders that the child is given, and the record that it leaves.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::handed_out::Handed;
use super::plan::{Lenience, Search, Step};
use super::weaken::Omitted;

/// How many refused optional steps are remembered.
const REFUSALS: usize = 64;

/// What the child tells the parent. Read after the clone has returned.
pub(super) struct Record {
    /// The index of the step that failed, valid when `errno` is not 0.
    pub(super) step: AtomicU32,
    /// Why; 0 if the program was executed.
    pub(super) errno: AtomicI32,
    /// Which program could not be executed; as many as there are: none was found.
    pub(super) program: AtomicU32,
    /// Optional steps that were refused, as (step + 1) << 16 | errno; 0 ends the list.
    refused: [AtomicU32; REFUSALS],
}

impl Default for Record {
    fn default() -> Self {
        Self {
            step: AtomicU32::new(0),
            errno: AtomicI32::new(0),
            program: AtomicU32::new(0),
            refused: [const { AtomicU32::new(0) }; REFUSALS],
        }
    }
}

/// All that the child needs, made before the clone. Pointers lead into memory that the suspended parent keeps alive.
pub(super) struct Orders<'a> {
    pub(super) steps: &'a [Step],
    /// Descriptors of opened trees, by slot; -1 until opened.
    pub(super) slots: &'a mut [c_int],
    /// Standard input, output and error: a descriptor above 2, or -1 to keep ours.
    pub(super) stdio: [c_int; 3],
    /// Written to when the id maps are wanted, and read from when they are there (-1 without).
    pub(super) maps_wanted: c_int,
    pub(super) maps_written: c_int,
    /// How many descriptors we may have.
    pub(super) descriptors: u32,
    /// A pidfd of the parent.
    pub(super) parent: c_int,
    /// The namespaces it is born in, as flags of `clone(2)`.
    pub(super) namespaces: c_int,
    /// The files that it joins its cgroups by.
    pub(super) cgroups: &'a [c_int],
    /// Whether one of these holds its memory: then nobody needs to watch.
    pub(super) memory_held: bool,
    /// What is handed out, by [`Handed`]; -1 where there is nothing.
    pub(super) handed: [c_int; Handed::COUNT],
    /// The socket it is sent over; -1 without.
    pub(super) hand_over: c_int,
    /// The filter that asks us about connections.
    pub(super) network_filter: &'a libc::sock_fprog,
    /// Why no network can be supervised here (an errno); 0 if one can.
    pub(super) unsupervised: c_int,
    /// The Landlock ruleset and what it allows beneath the root; -1 without Landlock. The second one also keeps TCP from what is not supervised.
    pub(super) ruleset: c_int,
    pub(super) supervised_ruleset: c_int,
    pub(super) allowed: u64,
    /// The seccomp filter.
    pub(super) filter: &'a libc::sock_fprog,
    /// Signals that must be set back to their default action.
    pub(super) signals: &'a [c_int],
    /// Programs as (path, argument vector).
    pub(super) programs: &'a [(*const c_char, *const *const c_char)],
    /// Argument vectors by which the init's file starts the programs; as many as there are ways to start, or none where the child may execute the program
    /// itself, since Landlock keeps it from executing us.
    pub(super) starts: &'a [*const *const c_char],
    pub(super) search: Search,
    pub(super) lenience: Lenience,
    /// What a test left out.
    pub(super) omitted: Omitted,
    pub(super) environment: *const *const c_char,
    pub(super) init: Option<Init>,
    pub(super) record: &'a Record,
}

impl Orders<'_> {
    /// The Landlock ruleset by what has come of the supervision.
    pub(super) fn ruleset_now(&self) -> c_int {
        let [notify, ..] = self.handed;
        if notify < 0 { self.ruleset } else { self.supervised_ruleset }
    }

    /// Whether the child has opened anything for the host.
    pub(super) fn hands_out(&self) -> bool {
        self.handed.iter().any(|descriptor| *descriptor >= 0)
    }
}

/// What it takes to become an init.
pub(super) struct Init {
    /// The init's executable, above descriptor 3.
    pub(super) executable: c_int,
    /// Above descriptor 3, which it will be: the write end of the status pipe, or what it takes orders over.
    pub(super) talk: c_int,
    /// How it tells the sandbox's processes from others where there is no pid namespace, as `init.rs` has it.
    pub(super) scope: Option<u8>,
    /// The init's end of the socket factory, above descriptor 4; -1 without.
    pub(super) factory: c_int,
    /// The program beside it, if it begins with one.
    pub(super) beside: Option<Beside>,
}

/// What it takes to become the program beside an init.
pub(super) struct Beside {
    /// Top of a stack for that process.
    pub(super) stack: *mut c_void,
    /// A pipe that nothing is written to: its end lets the program start.
    pub(super) gate: (c_int, c_int),
    /// The write end of a pipe that closes when the program is executed; written to if it cannot be.
    pub(super) started: c_int,
}

impl Orders<'_> {
    /// Whether the sandbox is launched without a step that was refused.
    pub(super) fn may_lack(&self, step: &Step) -> bool {
        match self.lenience {
            Lenience::Strict => !step.protects(),
            Lenience::Usual => step.optional(),
            Lenience::Probing => !matches!(step, Step::Execute),
        }
    }
}

impl Record {
    /// Whether a step has failed that had to be done.
    pub(super) fn failed(&self) -> bool {
        self.errno.load(Ordering::Acquire) != 0
    }

    /// Notes that an optional step was refused; `count` were before.
    pub(super) fn refuse(&self, count: usize, step: u32, errno: c_int) {
        if let Some(place) = self.refused.get(count) {
            place.store((step + 1) << 16 | errno as u32, Ordering::Relaxed);
        }
    }

    /// The optional steps that were refused, as (step, errno).
    pub(super) fn refusals(&self) -> impl Iterator<Item = (usize, c_int)> {
        let words = self.refused.iter().map(|word| word.load(Ordering::Relaxed)).take_while(|word| *word != 0);
        words.map(|word| ((word >> 16) as usize - 1, (word & 0xffff) as c_int))
    }
}
