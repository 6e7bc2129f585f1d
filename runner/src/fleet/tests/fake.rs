//! Environments made of nothing, and callers.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::api::invoke::{Answered, AnsweredBody, InvokeCall, InvokeReply};
use crate::environment::{Answer, Broken, Done, Finished, Guest, Handle, Knock, Order, Part, Visit, Work, ids};
use crate::fleet::{Control, Fleet, FleetOptions, Notice, Open, Served};
use crate::function::Function;
use crate::function::events::EventRules;
use crate::lambda::{
    AnswerForm, ErrorKind, FunctionError, Invocation, InvocationKind, InvokeRequest, InvokeTarget, MAX_PAYLOAD_BYTES, ReportFigures,
    ReportStatus,
};

/// What fake environments did, in order: `open 1`, `1 invoke "{}"`, `1 restart`, `1 shut down`, `1 dropped`, `1 enter`, `1 pause`, `1 resume`; and who visits them.
#[derive(Debug, Default, Clone)]
pub struct Diary(Rc<RefCell<Vec<String>>>, Rc<RefCell<Vec<Knock>>>);

impl Diary {
    fn write(&self, entry: String) {
        self.0.borrow_mut().push(entry);
    }

    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }

    pub fn count(&self, what: &str) -> usize {
        self.0.borrow().iter().filter(|entry| entry.contains(what)).count()
    }

    /// All visitors leave.
    pub fn leave(&self) {
        self.1.take();
    }

    /// The invocations that were run, whole.
    pub fn opener(&self, invocations: &Rc<RefCell<Vec<Invocation>>>) -> Open {
        let (diary, number, invocations) = (self.clone(), RefCell::new(0), invocations.clone());
        Box::new(move || {
            *number.borrow_mut() += 1;
            let number = *number.borrow();
            diary.write(format!("open {number}"));
            let (handle, orders, visits) = Handle::with_visits();
            tokio::task::spawn_local(visited(number, visits, diary.clone()));
            tokio::task::spawn_local(environment(number, orders, diary.clone(), invocations.clone()));
            Ok(handle)
        })
    }
}

/// Does what events say: `sleep MS`, `settle MS` (answered at once, the phase goes on for so long), `fail`, `broken`, `die`, `stream N`, `streamfail`, `large`, `fail N` (the first N times); anything else is
/// answered with itself.
async fn environment(number: usize, mut orders: mpsc::Receiver<Order>, diary: Diary, invocations: Rc<RefCell<Vec<Invocation>>>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Restart => diary.write(format!("{number} restart")),
            Order::ShutDown { done } => {
                diary.write(format!("{number} shut down"));
                sleep(Duration::from_secs(2)).await;
                let _ = done.send(());
                return;
            }
            Order::Invoke(work) => {
                let Work { invocation, answer, finished } = *work;
                let text = String::from_utf8_lossy(&invocation.event).into_owned();
                diary.write(format!("{number} invoke {text}"));
                let before = invocations.borrow().iter().filter(|other| other.request_id == invocation.request_id).count();
                invocations.borrow_mut().push(invocation.clone());
                match obey(&invocation, &text, before).await {
                    None => return diary.write(format!("{number} dies")),
                    Some(Err(broken)) => {
                        let _ = answer.send(Err(broken));
                        return;
                    }
                    Some(Ok(told)) => tell(told, answer).await,
                }
                // The phase goes on after the answer, as with extensions.
                sleep(Duration::from_millis(text.strip_prefix("settle ").map_or(10, |ms| ms.parse().unwrap()))).await;
                let _ = finished.send(Finished {
                    figures: figures(),
                    status: ReportStatus::Success,
                    log_tail: format!("log of {text}").into(),
                });
            }
        }
    }
    diary.write(format!("{number} dropped"));
}

async fn visited(number: usize, mut visits: mpsc::UnboundedReceiver<Knock>, diary: Diary) {
    while let Some(knock) = visits.recv().await {
        let what = match &knock.0 {
            Visit::Enter(_) => "enter",
            Visit::Open(_) => "open",
            Visit::Look(_) => "look",
            Visit::Pause(_) => "pause",
            Visit::Resume(_) => "resume",
        };
        diary.write(format!("{number} {what}"));
        if matches!(knock.0, Visit::Enter(_)) {
            diary.1.borrow_mut().push(knock);
        }
    }
}

enum Told {
    Answer(Answer),
    Stream(Vec<Part>),
}

async fn obey(invocation: &Invocation, text: &str, before: usize) -> Option<Result<Told, Broken>> {
    let failed = || FunctionError {
        payload: Bytes::from_static(b"{\"errorMessage\":\"boom\",\"errorType\":\"E\"}"),
        kind: ErrorKind::Handler("Function.Boom".into()),
    };
    let answer = |answer| Some(Ok(Told::Answer(answer)));
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["sleep", ms] => {
            sleep(Duration::from_millis(ms.parse().unwrap())).await;
            answer(Answer::Success { payload: invocation.event.clone() })
        }
        ["fail"] => answer(Answer::Failed(failed())),
        ["fail", times] if before < times.parse().unwrap() => answer(Answer::Failed(failed())),
        ["broken", times] if before < times.parse().unwrap() => Some(Err(Broken { reason: "no sandbox".to_owned(), hint: None })),
        ["broken"] => Some(Err(Broken { reason: "no sandbox".to_owned(), hint: Some("buy one".to_owned()) })),
        ["die"] => None,
        ["stream", count] => {
            let parts = (0..count.parse().unwrap()).map(|n: u32| Part::Data(format!("{n};").into()));
            Some(Ok(Told::Stream(parts.collect())))
        }
        ["streamfail"] => Some(Ok(Told::Stream(vec![Part::Data("0;".into()), Part::Failed(failed())]))),
        ["large"] => {
            let parts = [MAX_PAYLOAD_BYTES, 1, 1, 1].map(|size| Part::Data(vec![b'x'; size].into()));
            Some(Ok(Told::Stream(parts.into())))
        }
        _ => answer(Answer::Success { payload: invocation.event.clone() }),
    }
}

async fn tell(told: Told, answer: oneshot::Sender<Result<Answer, Broken>>) {
    match told {
        Told::Answer(told) => {
            let _ = answer.send(Ok(told));
        }
        Told::Stream(parts) => {
            let (sender, receiver) = mpsc::channel(1);
            let _ = answer.send(Ok(Answer::Stream { content_type: Some("text/x".to_owned()), parts: receiver }));
            for part in parts {
                let _ = sender.send(part).await;
            }
        }
    }
}

fn figures() -> ReportFigures {
    ReportFigures::new(None, Duration::from_millis(1), Function::sample("3").memory, 1)
}

/// A fleet at work with one fake function, `fn`.
pub struct AtWork {
    pub calls: mpsc::Sender<InvokeCall>,
    pub control: Control,
    visits: mpsc::UnboundedSender<Visit>,
    pub diary: Diary,
    pub invocations: Rc<RefCell<Vec<Invocation>>>,
    pub notices: Rc<RefCell<Vec<Notice>>>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl AtWork {
    pub fn new(concurrency: usize, options: FleetOptions) -> Self {
        let (diary, invocations) = (Diary::default(), Rc::default());
        let open = diary.opener(&invocations);
        Self::with(vec![served(concurrency, open)], options, diary, invocations)
    }

    pub fn with(functions: Vec<Served>, mut options: FleetOptions, diary: Diary, invocations: Rc<RefCell<Vec<Invocation>>>) -> Self {
        let notices: Rc<RefCell<Vec<Notice>>> = Rc::default();
        let seen = notices.clone();
        options.notify = Box::new(move |notice| seen.borrow_mut().push(notice));
        let (visits, visited) = mpsc::unbounded_channel();
        let fleet = Fleet::new(functions, options).with_visits(Some(visited));
        let control = fleet.control();
        let (calls, received) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::task::spawn_local(fleet.run(received, async {
            // Dropping it is a stop, too.
            let _ = stopped.await;
        }));
        Self { calls, control, visits, diary, invocations, notices, stop, ended }
    }

    pub async fn send(&self, request: InvokeRequest) -> oneshot::Receiver<InvokeReply> {
        let (reply, replied) = oneshot::channel();
        self.calls.send(InvokeCall { request, reply }).await.unwrap();
        replied
    }

    /// Calls `fn`, and returns when the answer is there.
    pub async fn call(&self, event: &str) -> InvokeReply {
        self.send(request(event)).await.await.unwrap()
    }

    /// A command for one of its environments.
    pub fn enter(&self) {
        let (started, _) = oneshot::channel();
        let (ended, _) = oneshot::channel();
        let guest = Guest { command: Vec::new(), variables: Vec::new(), working_dir: None, streams: Vec::new(), started, ended };
        self.visits.send(Visit::Enter(Box::new(guest))).unwrap();
    }

    /// Returns when all has stopped.
    pub async fn pause(&self) {
        let (done, doing) = Done::new();
        self.visits.send(Visit::Pause(done)).unwrap();
        doing.end().await;
    }

    /// Returns when all goes on.
    pub async fn resume(&self) {
        let (done, doing) = Done::new();
        self.visits.send(Visit::Resume(done)).unwrap();
        doing.end().await;
    }

    /// Ends it as a kill does, but for tasks that know nothing of it.
    pub async fn kill(self) {
        self.ended.abort();
        assert!(self.ended.await.unwrap_err().is_cancelled());
    }

    pub async fn stop(self) -> Diary {
        drop(self.stop);
        self.ended.await.unwrap();
        self.diary
    }
}

pub fn served(concurrency: usize, open: Open) -> Served {
    Served { function: Arc::new(Function::sample("3")), open, concurrency, events: EventRules::default() }
}

pub fn request(event: &str) -> InvokeRequest {
    InvokeRequest {
        request_id: ids::request_id().unwrap(),
        target: InvokeTarget { name: "fn".to_owned(), qualifier: None, region: None, account_id: None },
        kind: InvocationKind::RequestResponse,
        form: AnswerForm::Buffered,
        log_tail: false,
        payload: Bytes::copy_from_slice(event.as_bytes()),
        content_type: None,
        client_context: None,
        tenant_id: None,
        trace_id: None,
    }
}

/// The text of a whole answer, `!` before one that failed, ` [tail]` after one with a log tail.
pub fn text(reply: InvokeReply) -> String {
    match reply {
        InvokeReply::Answered(Answered { body: AnsweredBody::Whole { payload, failed, log_tail }, .. }) => {
            let mark = if failed { "!" } else { "" };
            let tail = log_tail.map(|tail| format!(" [{}]", String::from_utf8(tail).unwrap())).unwrap_or_default();
            format!("{mark}{}{tail}", String::from_utf8_lossy(&payload))
        }
        other => format!("{other:?}"),
    }
}
