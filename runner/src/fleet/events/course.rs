//! The course of one event, from its acceptance to its end: pure decisions.
//!
//! Kept on disk in this form ([format](../../../../docs/formats/event-store.md)): what is written here must stay readable.

use serde::{Deserialize, Serialize};

use crate::function::events::EventRules;

/// The longest back-off after faults that are not the function's.
const MAX_BACK_OFF_MS: u64 = 300_000;
/// The first one.
const BACK_OFF_MS: u64 = 1_000;
/// An error message goes to a dead-letter queue in one kilobyte.
const MESSAGE_BYTES: usize = 1024;

/// An event on its way, all but its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::fleet) struct Course {
    pub(in crate::fleet) request_id: String,
    /// The function's name in this server.
    pub(in crate::fleet) function: String,
    pub(in crate::fleet) invoked_function_arn: String,
    pub(in crate::fleet) trace_id: String,
    #[serde(default)]
    pub(in crate::fleet) content_type: Option<String>,
    #[serde(default)]
    pub(in crate::fleet) tenant_id: Option<String>,
    /// When it was accepted. All times are milliseconds since 1970.
    pub(in crate::fleet) accepted_ms: u64,
    /// How often the function has run.
    pub(in crate::fleet) attempts: u32,
    /// How often something else than the function failed since.
    pub(in crate::fleet) faults: u32,
    /// Not to be touched before.
    pub(in crate::fleet) due_ms: u64,
    pub(in crate::fleet) stage: Stage,
    /// What the last attempt came to.
    #[serde(default)]
    pub(in crate::fleet) last: Option<Last>,
}

/// What is to be done with an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::fleet) enum Stage {
    /// It is run.
    Invoke,
    /// It is over, and somebody is to be told.
    #[serde(rename_all = "camelCase")]
    Tell { condition: Condition, ended_ms: u64, to: Vec<Purpose> },
}

/// How it ended, in the words of Lambda's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fleet) enum Condition {
    Success,
    RetriesExhausted,
    EventAgeExceeded,
    ZeroReservedConcurrency,
}

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::fleet) enum Purpose {
    OnSuccess,
    OnFailure,
    DeadLetter,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::fleet) struct Last {
    /// As Lambda counts: 200 for whatever the function did, 429 for no room, 500 for faults of the service.
    pub(in crate::fleet) status: u16,
    /// Whether the function failed.
    pub(in crate::fleet) failed: bool,
    /// What went wrong, in at most a kilobyte.
    pub(in crate::fleet) message: String,
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fleet) enum Tried {
    /// The function answered.
    Succeeded,
    /// It failed.
    Failed { message: String },
    /// It could not be run.
    Fault { message: String },
}

impl Course {
    /// When it is too old to be begun.
    pub(in crate::fleet) fn expires_ms(&self, rules: &EventRules) -> u64 {
        self.accepted_ms.saturating_add(u64::try_from(rules.max_age.as_millis()).unwrap_or(u64::MAX))
    }

    /// What follows from an attempt. `None`: it is over, and nobody is to be told.
    pub(in crate::fleet) fn tried(mut self, tried: Tried, rules: &EventRules, retry_delay_ms: u64, now_ms: u64) -> Option<Self> {
        match tried {
            Tried::Succeeded => {
                (self.attempts, self.last) = (self.attempts + 1, Some(Last { status: 200, failed: false, message: String::new() }));
                self.end(Condition::Success, rules, now_ms)
            }
            Tried::Failed { message } => {
                (self.attempts, self.faults) = (self.attempts + 1, 0);
                self.last = Some(Last { status: 200, failed: true, message: cut(message) });
                if self.attempts > rules.max_retries {
                    return self.end(Condition::RetriesExhausted, rules, now_ms);
                }
                let delay_ms = retry_delay_ms.saturating_mul(u64::from(self.attempts));
                self.again(delay_ms, rules, now_ms)
            }
            Tried::Fault { message } => {
                self.faults = self.faults.saturating_add(1);
                // What the function said last says more than why it could not be asked again.
                if self.attempts == 0 {
                    self.last = Some(Last { status: 500, failed: false, message: cut(message) });
                }
                let delay_ms = back_off_ms(self.faults);
                self.again(delay_ms, rules, now_ms)
            }
        }
    }

    /// Tries again after so long, or when it is too old, to be given up then.
    fn again(mut self, delay_ms: u64, rules: &EventRules, now_ms: u64) -> Option<Self> {
        self.due_ms = now_ms.saturating_add(delay_ms).min(self.expires_ms(rules));
        Some(self)
    }

    /// It is over. `None`: nobody is to be told.
    pub(in crate::fleet) fn end(mut self, condition: Condition, rules: &EventRules, now_ms: u64) -> Option<Self> {
        let wanted = match condition {
            Condition::Success => vec![(Purpose::OnSuccess, rules.on_success.is_some())],
            _ => vec![(Purpose::OnFailure, rules.on_failure.is_some()), (Purpose::DeadLetter, rules.dead_letter.is_some())],
        };
        let to: Vec<Purpose> = wanted.into_iter().filter_map(|(purpose, wanted)| wanted.then_some(purpose)).collect();
        (self.faults, self.due_ms) = (0, now_ms);
        let any = !to.is_empty();
        self.stage = Stage::Tell { condition, ended_ms: now_ms, to };
        any.then_some(self)
    }

    /// Somebody was told, or could not be and will be told later. `None`: all have been.
    pub(in crate::fleet) fn told(mut self, purpose: Purpose, success: bool, now_ms: u64) -> Option<Self> {
        let Stage::Tell { to, .. } = &mut self.stage else { return Some(self) };
        if success {
            to.retain(|other| *other != purpose);
            (self.faults, self.due_ms) = (0, now_ms);
            return if to.is_empty() { None } else { Some(self) };
        }
        self.faults = self.faults.saturating_add(1);
        self.due_ms = now_ms.saturating_add(back_off_ms(self.faults));
        // The others first.
        to.retain(|other| *other != purpose);
        to.push(purpose);
        Some(self)
    }
}

/// How long to wait after so many faults in a row.
fn back_off_ms(faults: u32) -> u64 {
    (BACK_OFF_MS << faults.saturating_sub(1).min(9)).min(MAX_BACK_OFF_MS)
}

/// The beginning of a message that is long.
fn cut(mut message: String) -> String {
    let end = (0..=MESSAGE_BYTES.min(message.len())).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    message.truncate(end);
    message
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::function::events::Destination;

    pub(in crate::fleet) fn course() -> Course {
        Course {
            request_id: "00000000-0000-4000-8000-000000000000".to_owned(),
            function: "fn".to_owned(),
            invoked_function_arn: "arn".to_owned(),
            trace_id: "Root=1".to_owned(),
            content_type: None,
            tenant_id: None,
            accepted_ms: 1_000_000,
            attempts: 0,
            faults: 0,
            due_ms: 1_000_000,
            stage: Stage::Invoke,
            last: None,
        }
    }

    fn rules() -> EventRules {
        let folder = || Some(Destination::Folder("x".into()));
        EventRules { on_success: folder(), on_failure: folder(), dead_letter: folder(), ..EventRules::default() }
    }

    fn failed() -> Tried {
        Tried::Failed { message: "boom".to_owned() }
    }

    fn fault() -> Tried {
        Tried::Fault { message: "no room".to_owned() }
    }

    fn told_to(course: &Course) -> (Condition, Vec<Purpose>) {
        match &course.stage {
            Stage::Tell { condition, to, .. } => (*condition, to.clone()),
            Stage::Invoke => panic!("{course:?}"),
        }
    }

    #[test]
    fn a_function_that_fails_is_tried_after_one_minute_and_after_two_more() {
        let first = course().tried(failed(), &rules(), 60_000, 1_000_000).unwrap();
        assert_eq!((first.attempts, first.due_ms, &first.stage), (1, 1_060_000, &Stage::Invoke));
        let second = first.tried(failed(), &rules(), 60_000, 1_060_000).unwrap();
        assert_eq!((second.attempts, second.due_ms), (2, 1_180_000));
        let third = second.tried(failed(), &rules(), 60_000, 1_180_000).unwrap();
        assert_eq!((third.attempts, third.due_ms), (3, 1_180_000));
        assert_eq!(told_to(&third), (Condition::RetriesExhausted, vec![Purpose::OnFailure, Purpose::DeadLetter]));
        let without = EventRules { max_retries: 0, ..EventRules::default() };
        assert_eq!(course().tried(failed(), &without, 60_000, 1_000_000), None);
    }

    #[test]
    fn success_is_told_of_if_anybody_wants_to_know() {
        let course_told = course().tried(Tried::Succeeded, &rules(), 60_000, 1_000_005).unwrap();
        assert_eq!((course_told.attempts, told_to(&course_told)), (1, (Condition::Success, vec![Purpose::OnSuccess])));
        assert_eq!(course().tried(Tried::Succeeded, &EventRules::default(), 60_000, 1_000_005), None);
    }

    #[test]
    fn faults_back_off_and_are_no_attempts() {
        let (mut now, mut current, mut delays) = (1_000_000, course(), Vec::new());
        for _ in 0..12 {
            current = current.tried(fault(), &rules(), 60_000, now).unwrap();
            delays.push((current.due_ms - now) / 1000);
            now = current.due_ms;
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!((current.attempts, current.last.as_ref().unwrap().status), (0, 500));
    }

    #[test]
    fn nothing_is_due_after_it_is_too_old() {
        let short = EventRules { max_age: Duration::from_secs(90), ..rules() };
        let first = course().tried(failed(), &short, 60_000, 1_000_000).unwrap();
        let second = first.tried(failed(), &short, 60_000, 1_060_000).unwrap();
        assert_eq!((second.due_ms, second.expires_ms(&short)), (1_090_000, 1_090_000));
        let given_up = second.end(Condition::EventAgeExceeded, &short, 1_090_000).unwrap();
        assert_eq!(told_to(&given_up).0, Condition::EventAgeExceeded);
        assert_eq!(given_up.last.unwrap().message, "boom");
    }

    #[test]
    fn each_is_told_until_it_knows() {
        let ended = course().end(Condition::RetriesExhausted, &rules(), 2_000_000).unwrap();
        let later = ended.told(Purpose::OnFailure, false, 2_000_000).unwrap();
        assert_eq!((later.due_ms, told_to(&later).1), (2_001_000, vec![Purpose::DeadLetter, Purpose::OnFailure]));
        let one = later.told(Purpose::DeadLetter, true, 2_001_000).unwrap();
        assert_eq!((one.due_ms, told_to(&one).1), (2_001_000, vec![Purpose::OnFailure]));
        assert_eq!(one.told(Purpose::OnFailure, true, 2_001_000), None);
    }

    #[test]
    fn messages_are_cut_between_characters() {
        for (message, kept) in
            [("é".repeat(600), 1024), ("x".repeat(1025), 1024), (format!("x{}", "é".repeat(600)), 1023), ("x".to_owned(), 1)]
        {
            assert_eq!(cut(message).len(), kept);
        }
    }

    #[test]
    fn stays_readable() {
        let text = r#"{"requestId":"i","function":"fn","invokedFunctionArn":"a","traceId":"t","acceptedMs":1,"attempts":2,"faults":3,"dueMs":4,"stage":"invoke"}"#;
        let read: Course = serde_json::from_str(text).unwrap();
        assert_eq!((read.attempts, read.faults, read.stage), (2, 3, Stage::Invoke));
        let ended = course().end(Condition::Success, &rules(), 5).unwrap();
        let written = serde_json::to_string(&ended).unwrap();
        assert!(written.contains(r#""stage":{"tell":{"condition":"Success","endedMs":5,"to":["onSuccess"]}}"#), "{written}");
        assert_eq!(serde_json::from_str::<Course>(&written).unwrap(), ended);
    }
}
