//! Runs a function in this process: `cargo run --example in_process [IMAGE HANDLER CODE]`. Without arguments, examples/hello on this machine's userland.
//! The same can stand in a test, as below.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runner::embedded::{Answer, LambdaFunction};
use runner::exit_code::Failure;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let function = match arguments.as_slice() {
        [image, handler, code] => LambdaFunction::new(image).handler(handler).code(code),
        _ => hello(),
    };
    let answer = function.run(br#"{"name": "you"}"#)?;
    tell(&answer);
    Ok(())
}

/// examples/hello, a `bootstrap` that is a shell script.
fn hello() -> LambdaFunction {
    let code: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello");
    LambdaFunction::new("host").code(code).handler("handler").memory_mb(256).timeout(Duration::from_secs(5))
}

fn tell(answer: &Answer) {
    print!("{}", answer.log);
    match answer.result() {
        Ok(payload) => println!("answered: {}", String::from_utf8_lossy(payload)),
        Err(error) => println!("failed: {}", String::from_utf8_lossy(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::hello;

    #[test]
    fn greets() {
        let answer = hello().run(br#"{"name": "test"}"#).unwrap();
        assert!(answer.result().is_ok_and(|payload| !payload.is_empty()), "{answer:?}");
        assert!(answer.log.contains("REPORT RequestId: "), "{}", answer.log);
        assert!(answer.figures.is_some_and(|figures| figures.memory_size.mb() == 256));
    }
}
