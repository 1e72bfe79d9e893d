//! What happens to a request, in order: recorded, authenticated, held or refused as the behaviour says,
//! answered by its wire format, and played back.

use std::io;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::behaviour::{Behaviour, Health};
use crate::call::Call;
use crate::control::Shared;
use crate::fault::Fault;
use crate::interruption::{Interruption, InterruptionKind, Point, Stage};
use crate::ledger::{Arrival, Ticket};
use crate::options::Engine;
use crate::playback::{Pace, Playback, Progress, ReplyBody};
use crate::reply::{Content, Event, Made, Reply};
use crate::residents::Stay;
use crate::socket::{Ending, Wire};
use crate::text::{self, Random};
use crate::{engine, ollama, openai, steer};

/// Answers one request. The server drops this future when the caller hangs up, and the ticket with it.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    wire: Wire,
    request: Request<Incoming>,
) -> io::Result<Response<ReplyBody>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path();
    let is_call = engine::is_call(&head.method, path) && path != steer::PATH;
    let ticket = shared.ledger.open(&Arrival {
        is_call,
        method: &head.method,
        target: head.uri.path_and_query().map_or(path, |target| target.as_str()),
        headers: &head.headers,
        body: &body,
    });
    // The waits and errors of a call follow from the seed and the calls before it.
    let mut random = Random::new(text::hash(&shared.options.seed.to_le_bytes()) ^ ticket.ordinal());
    let behaviour =
        if is_call { shared.timeline.call_arrives(&shared).drawn(&mut random) } else { shared.behaviour() };
    let call = Call {
        shared: &shared,
        behaviour: &behaviour,
        number: ticket.number(),
        method: &head.method,
        path,
        query: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
        body: &body,
    };
    let answered = if is_call { respond(&call, &mut random) } else { look_up(&call).await };
    let reply = answered.unwrap_or_else(|fault| fault.reply(call.engine(), call.is_native()));
    deliver(&call, wire, reply, ticket, random).await
}

/// Answers a request that asks for no work.
async fn look_up(call: &Call<'_>) -> Result<Reply, Fault> {
    if call.path == steer::PATH {
        return steer::answer(call);
    }
    authenticate(call)?;
    if call.behaviour.health == Health::Silent {
        held(call.shared, |behaviour| behaviour.health == Health::Silent).await;
    }
    engine::probe(call)
}

/// Answers a call.
fn respond(call: &Call<'_>, random: &mut Random) -> Result<Reply, Fault> {
    authenticate(call)?;
    refuse(call.behaviour, random)?;
    match call.engine() {
        Engine::Ollama if call.is_native() => ollama::answer(call),
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
    match behaviour.health {
        Health::Loading => return Err(Fault::loading()),
        Health::Draining => return Err(Fault::draining()),
        Health::Ready | Health::Failing | Health::Silent => {}
    }
    if let Some(forced) = behaviour.status {
        let status = StatusCode::from_u16(forced.status).ok().filter(|status| status.as_u16() >= 400);
        let fault = Fault::forced(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        return Err(fault.again_in(forced.retry_after, forced.form));
    }
    let fails = Some((Point::Stage(Stage::Request), InterruptionKind::Error));
    if behaviour.interruption.map(|it| (it.after, it.kind)) == fails {
        return Err(Fault::forced(StatusCode::INTERNAL_SERVER_ERROR));
    }
    if random.fraction() < behaviour.error_rate {
        return Err(Fault::forced(StatusCode::INTERNAL_SERVER_ERROR));
    }
    Ok(())
}

/// Brings an answer onto the wire, or breaks the connection off.
async fn deliver(
    call: &Call<'_>,
    wire: Wire,
    reply: Reply,
    ticket: Ticket,
    random: Random,
) -> io::Result<Response<ReplyBody>> {
    let body = match reply.content {
        Content::Ready(bytes) => ReplyBody::whole(bytes, ticket),
        Content::Made(made) => make(call, wire, made, ticket, random).await?,
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    engine::sign(call, headers);
    if let Some((wait, form)) = reply.retry_after {
        form.tell(wait, headers);
    }
    Ok(response)
}

/// Works for an answer: takes a slot, loads the model, and sees to what befalls the call before its
/// head. The rest befalls the body.
async fn make(
    call: &Call<'_>,
    wire: Wire,
    made: Made,
    mut ticket: Ticket,
    random: Random,
) -> io::Result<ReplyBody> {
    let (shared, behaviour, work) = (call.shared, call.behaviour, made.work);
    let stay =
        call.engine().loads_on_demand().then(|| shared.residents.enter(&work.model, behaviour, work.keeps));
    let loaded = stay.as_ref().map(Stay::ready);
    ticket.work(&shared.slots, stay).await;
    if let Some(loaded) = loaded.filter(|loaded| *loaded > Instant::now()) {
        tokio::time::sleep_until(loaded).await;
    }
    if behaviour.holds_calls() {
        held(shared, Behaviour::holds_calls).await;
    }
    if let Some(ending) = at_request(behaviour) {
        ticket.break_off();
        wire.end_with(ending);
        return Err(io::Error::other("broken off as scripted"));
    }
    shared.accounts.generated(work.usage.completion);
    wire.drip(behaviour.head_drip);
    let mut pace = Pace::new(Arc::clone(behaviour), work, random);
    if !made.is_streamed {
        pace.whole(&ticket).await;
        if behaviour.interruption.is_none()
            && let [event] = &made.events[..]
        {
            return Ok(ReplyBody::whole(event.bytes.clone(), ticket));
        }
    }
    let length = promised_length(&made.events, made.is_streamed, behaviour.interruption);
    let failure = Fault::forced(StatusCode::INTERNAL_SERVER_ERROR);
    let playback = Playback {
        framing: made.framing,
        failure: failure.event(call.engine(), call.is_native(), made.framing),
        events: made.events.into(),
        pace: made.is_streamed.then_some(pace),
        interruption: behaviour.interruption,
        behaviour: shared.behaviour.subscribe(),
        wire,
        ticket,
        progress: Progress::default(),
    };
    Ok(ReplyBody::played(playback, length))
}

/// How the connection ends of a call that gets no head, if it does.
fn at_request(behaviour: &Behaviour) -> Option<Ending> {
    let interruption = behaviour.interruption?;
    if interruption.after != Point::Stage(Stage::Request) {
        return None;
    }
    interruption.kind.ending()
}

/// The length that the head of an answer promises; none where more may come than the answer has.
fn promised_length(events: &[Event], is_streamed: bool, interruption: Option<Interruption>) -> Option<u64> {
    use InterruptionKind as K;
    let adds = interruption.is_some_and(|it| matches!(it.kind, K::Malformed | K::Error));
    let length = events.iter().map(|event| event.bytes.len() as u64).sum();
    (!is_streamed && !adds).then_some(length)
}
