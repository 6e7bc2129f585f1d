//! An extension of AWS's crate: says what it is told, and which lines the function wrote.

use lambda_extension::{Error, Extension, LambdaEvent, LambdaLog, LambdaLogRecord, NextEvent, SharedService, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let logs = SharedService::new(service_fn(|logs: Vec<LambdaLog>| async move {
        for log in logs {
            if let LambdaLogRecord::Function(line) = log.record {
                eprintln!("extension: line {}", line.trim_end());
            }
        }
        Ok::<(), Error>(())
    }));
    let events = service_fn(|event: LambdaEvent| async move {
        match event.next {
            NextEvent::Invoke(invoke) => eprintln!("extension: invoke {}", invoke.request_id),
            NextEvent::Shutdown(shutdown) => eprintln!("extension: shutdown {}", shutdown.shutdown_reason),
        }
        Ok::<(), Error>(())
    });
    Extension::new().with_events(&["INVOKE", "SHUTDOWN"]).with_events_processor(events).with_logs_processor(logs).run().await
}
