//! What happens to a request, in order: recorded, authenticated, held or refused as the behaviour says,
//! answered by its wire format, and played back.

use std::io;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::behaviour::{Behaviour, Health};
use crate::call::Call;
use crate::control::Shared;
use crate::fault::Fault;
use crate::ledger::{Arrival, Ticket};
use crate::options::Engine;
use crate::playback::{Pace, Playback, ReplyBody};
use crate::reply::{Content, Reply};
use crate::text::{self, Random};
use crate::{engine, ollama, openai, steer};

/// Answers one request. The server drops this future when the caller hangs up, and the ticket with it.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> io::Result<Response<ReplyBody>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path();
    let ticket = shared.ledger.open(&Arrival {
        is_call: is_call(&head.method, path),
        method: &head.method,
        target: head.uri.path_and_query().map_or(path, |target| target.as_str()),
        headers: &head.headers,
        body: &body,
    });
    let behaviour = shared.behaviour();
    let call = Call {
        shared: &shared,
        behaviour: &behaviour,
        number: ticket.number(),
        method: &head.method,
        path,
        headers: &head.headers,
        body: &body,
    };
    // The waits and errors of a call follow from the seed and the calls before it.
    let mut random = Random::new(text::hash(&shared.options.seed.to_le_bytes()) ^ ticket.ordinal());
    let reply = respond(&call, &mut random)
        .await
        .unwrap_or_else(|fault| fault.reply(call.engine(), call.is_native()));
    Ok(deliver(&call, reply, ticket, random).await)
}

/// Discovery reads; work is posted. Ollama's `show` is the exception.
fn is_call(method: &Method, path: &str) -> bool {
    method == Method::POST && path != "/api/show" && path != steer::PATH
}

async fn respond(call: &Call<'_>, random: &mut Random) -> Result<Reply, Fault> {
    if call.path == steer::PATH {
        return steer::answer(call);
    }
    authenticate(call)?;
    if !is_call(call.method, call.path) {
        if call.behaviour.health == Health::Silent {
            held(call.shared, |behaviour| behaviour.health == Health::Silent).await;
        }
        return engine::probe(call);
    }
    if call.behaviour.hang_before_head {
        held(call.shared, |behaviour| behaviour.hang_before_head).await;
    }
    refuse(call.behaviour, random)?;
    match call.engine() {
        Engine::Ollama if call.is_native() => ollama::answer(call),
        Engine::LlamaCpp => engine::steer_models(call).unwrap_or_else(|| openai::answer(call)),
        _ => openai::answer(call),
    }
}

/// Holds a request while `holds` is true of the current behaviour.
async fn held(shared: &Shared, holds: impl Fn(&Behaviour) -> bool) {
    let mut behaviour = shared.behaviour.subscribe();
    // Fails only when the simulator is gone, and this request with it.
    let _ = behaviour.wait_for(|behaviour| !holds(behaviour)).await;
}

fn authenticate(call: &Call<'_>) -> Result<(), Fault> {
    let Some(key) = &call.shared.options.api_key else { return Ok(()) };
    if is_public(call.engine(), call.path) || bearer(call.headers) == Some(key) {
        return Ok(());
    }
    Err(Fault::unauthorized())
}

/// The paths an engine answers without a key.
fn is_public(engine: Engine, path: &str) -> bool {
    match engine {
        Engine::Vllm => !path.starts_with("/v1/"),
        Engine::LlamaCpp => matches!(path, "/health" | "/v1/health" | "/models" | "/v1/models"),
        Engine::Sglang | Engine::Tgi | Engine::TensorRtLlm => matches!(path, "/health" | "/metrics"),
        Engine::OpenAi | Engine::Ollama => false,
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The faults a call meets before it is read.
fn refuse(behaviour: &Behaviour, random: &mut Random) -> Result<(), Fault> {
    if behaviour.health == Health::Loading {
        return Err(Fault::loading());
    }
    if let Some(forced) = behaviour.status {
        let status = StatusCode::from_u16(forced.status).ok().filter(|status| status.as_u16() >= 400);
        let fault = Fault::forced(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        return Err(fault.retry_after(forced.retry_after_s));
    }
    if random.fraction() < behaviour.error_rate {
        return Err(Fault::forced(StatusCode::INTERNAL_SERVER_ERROR));
    }
    Ok(())
}

/// Brings an answer onto the wire.
async fn deliver(call: &Call<'_>, reply: Reply, mut ticket: Ticket, random: Random) -> Response<ReplyBody> {
    let mut pace = Pace::new(call.behaviour, random);
    if reply.takes_work() {
        // Fails only when the semaphore is closed, which nobody does.
        ticket.occupy(Arc::clone(&call.shared.slots).acquire_owned().await.ok());
    }
    let body = match reply.content {
        Content::Whole { bytes, tokens } => {
            if let Some(tokens) = tokens {
                pace.whole(tokens).await;
            }
            ReplyBody::whole(bytes, ticket)
        }
        Content::Events { framing, events } => {
            let failure = Fault::forced(StatusCode::INTERNAL_SERVER_ERROR);
            ReplyBody::played(Playback {
                framing,
                events: events.into_iter(),
                pace,
                interruption: call.behaviour.interruption,
                failure: failure.event(call.engine(), call.is_native(), framing),
                behaviour: call.shared.behaviour.subscribe(),
                ticket,
                sent: 0,
            })
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    if let Some(seconds) = reply.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    engine::sign(call, headers);
    response
}
