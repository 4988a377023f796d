//! Requests that the history server answers: the gateway brings the event log of an application to this node before, and shows a
//! page of its own while the history server reads it.

use super::archive::paid_by;
use super::handler::{Gateway, busy};
use super::history_server::opening;
use super::history_server::proxy::is_odd;
use super::http::Body;
use super::job_runs;
use super::limits::{ANSWER_TIMEOUT, OPENING_TIMEOUT, UNREAD_PAGE};
use super::metrics::RequestOutcome;
use super::pages::{self, Message};
use super::shares::{Client, Lack};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, header};

impl Gateway {
    /// Forwards a request to the history server.
    pub(super) async fn forward(&self, client: Client, request: Request<Incoming>) -> (Response<Body>, RequestOutcome) {
        let path = self.history_server.without_base(request.uri().path());
        if is_odd(path) {
            return (Message::new(StatusCode::NOT_FOUND, "Page not found").response(), RequestOutcome::NotFound);
        }
        let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let is_browser = accepts.is_some_and(|accept| accept.contains("text/html"));
        let mut used = None;
        if let Some(cache) = &self.event_log_cache {
            let before = cache.before(client, path, is_browser, &self.waiting);
            match Box::pin(paid_by(client, &self.archive.budget, before)).await {
                Ok(opened) => used = opened,
                Err(answer) => return *answer,
            }
        }
        let make_room = |lack| self.connections.evict_reader(UNREAD_PAGE, (lack == Lack::OfClient).then_some(client));
        let Some(share) = self.history_requests.take_or(client, make_room) else { return busy() };
        let application = opening::application(path).map(str::to_string);
        let timeout = if is_browser && application.is_some() { OPENING_TIMEOUT } else { ANSWER_TIMEOUT };
        let log = used.as_ref().and_then(|used| used.event_log(path));
        let run = log.and_then(|(bucket, key)| job_runs::links(&self.archive, &bucket, &key));
        let (history_server, has_login, request) =
            (self.history_server.clone(), self.logins.is_some(), request.map(drop));
        let answered = async move {
            let Some(used) = used else { return history_server.forward(request, has_login, timeout, None).await };
            let answer = history_server.forward(request.clone(), has_login, timeout, run.clone()).await;
            // The history server fails where the event log goes while it answers, because the log has grown.
            let fails = |status| matches!(status, StatusCode::NOT_FOUND | StatusCode::INTERNAL_SERVER_ERROR);
            if !answer.as_ref().is_ok_and(|response| fails(response.status())) {
                return answer;
            }
            used.wait_until_listed().await;
            history_server.forward(request, has_login, timeout, run).await
        };
        // The history server keeps a thread until its answer is read.
        let answer = async move { answered.await.map(|response| share.until_read(response)) };
        let answer = match &application {
            Some(application) if is_browser => self.openings.page(client, application, answer).await,
            Some(_) => match self.openings.answer(client, answer).await {
                None => return busy(),
                answer => answer,
            },
            None => Some(answer.await),
        };
        match answer {
            Some(Ok(response)) => (response, RequestOutcome::History),
            Some(Err(error)) => {
                let message = Message::new(StatusCode::BAD_GATEWAY, "The history server does not answer")
                    .text("Executor logs remain available. To see the state of the history server, type on the node:")
                    .code("sudo emr-shs status")
                    .text(format!("{error:#}"));
                (message.response(), RequestOutcome::Unavailable)
            }
            None => (pages::opening().response(), RequestOutcome::History),
        }
    }
}
