import { SpawnSyncOptions, SpawnSyncReturns } from 'child_process'

declare namespace dockerLambda {
  /** The options of docker-lambda 0.15. */
  interface Options {
    /** The image; `lambci/lambda:nodejs4.3` when not given. */
    dockerImage?: string
    /** The handler; `index.handler` when not given. */
    handler?: string
    /** The event; `{}` when not given, or not true. */
    event?: unknown
    /** The folder shown as /var/task; the current one when not given, none when empty. */
    taskDir?: string | false | null
    /** Whether `--rm` is given; true when not given. */
    cleanUp?: boolean
    /** Whether AWS's variables are passed on. */
    addEnvVars?: boolean
    /** More arguments, in front of the image. */
    dockerArgs?: string[]
    /** Replaces `{ encoding: 'utf8' }`. */
    spawnOptions?: SpawnSyncOptions
    /** Return what `spawnSync` returns; never throw. */
    returnSpawnResult?: boolean
  }

  /** How a function that stays warm is started. */
  interface ServeOptions {
    /** The image: a runtime such as `python3.12`, a reference, or `oci:DIR:NAME`. */
    image: string
    /** The handler; the image's own when not given. */
    handler?: string
    /** The folder shown as /var/task, for reading; the current one when not given, none when empty. */
    taskDir?: string | false | null
    /** Folders shown as /opt, merged in order. */
    layers?: string[]
    /** The function's variables. */
    env?: Record<string, string>
    /** Its memory in megabytes. */
    memory?: number
    /** Its timeout in seconds. */
    timeout?: number
    /** How many of its invocations run at once; 10 when not given. More wait. */
    concurrency?: number
    /** Start anew when a file of the function changes. */
    watch?: boolean
    /** More options of `undocked serve`. */
    args?: string[]
    /** Is called with what the function and the platform log. */
    onLog?: (text: string) => void
  }

  interface CallOptions {
    /** The function's name in the call; any will do. */
    name?: string
    /** `Event` queues the event and does not wait; `DryRun` only checks. */
    type?: 'RequestResponse' | 'Event' | 'DryRun'
    /** What the handler finds as its client context. */
    clientContext?: unknown
  }

  /** All of Lambda's answer. */
  interface Response<T = unknown> {
    statusCode: number
    requestId?: string
    /** `Unhandled` if the function failed. */
    functionError?: string
    /** The last 4096 bytes of the log of this invocation. */
    logTail?: string
    payload?: T
  }

  /** A function that stays warm. */
  interface Server {
    /** For the SDKs' `endpoint`. */
    readonly endpoint: string
    /** The last part of the log. */
    readonly log: string
    /** What the function answers; rejects with a FunctionError if it fails. */
    invoke<T = any>(event?: unknown, options?: CallOptions): Promise<T>
    /** All of Lambda's answer; a function that failed is one, too. */
    call<T = any>(event?: unknown, options?: CallOptions): Promise<Response<T>>
    /** Ends it, and everything it runs. */
    close(): Promise<void>
  }

  /** The function failed. `name` is its errorType, `message` its errorMessage. */
  class FunctionError extends Error {
    payload: { errorType?: string; errorMessage?: string; [other: string]: unknown }
    requestId?: string
    logTail?: string
  }

  /** Runs a function once, without blocking. */
  function invoke<T = any>(options?: Options): Promise<T>

  /** Starts a function that stays warm. */
  function serve(options: ServeOptions): Promise<Server>
}

/** Runs a function once and returns what it answered, as docker-lambda does; throws if it fails. */
declare function dockerLambda(options: dockerLambda.Options & { returnSpawnResult: true }): SpawnSyncReturns<string>
declare function dockerLambda<T = any>(options?: dockerLambda.Options): T

export = dockerLambda
