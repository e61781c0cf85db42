//! The control API's long lists: a page takes many turns of the control thread, which makes a bounded number of rows
//! in each and does its other work in between. Enters: the query of one page. Leaves: the page. Runs beside the
//! server, where waiting does no harm; `rows` makes the rows.

use super::{
    request::{List, Reply, Request, Requests, refuse},
    rows::{Cursor, MAX_TURN_ROWS, Part, Turn},
};
use axum::{
    Json,
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::sync::LazyLock;
use stopover_ctl::{ApiError, ListQuery, MOST_ROWS, Page};
use uuid::Uuid;

/// Most turns for one page. If few rows match, a page ends with what was found, and the next one continues.
const MAX_TURNS: usize = 256;

/// Distinguishes cursors of this process from those of an earlier one, whose tables had another order.
static PROCESS: LazyLock<u32> = LazyLock::new(|| Uuid::new_v4().as_fields().0);

/// `GET` of one of the lists.
pub(super) async fn page(
    list: List,
    requests: Requests,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let checked = query
        .map_err(|e| ApiError::new(e.body_text(), "vni=, after=, limit= or nothing", "correct the query"))
        .and_then(|Query(query)| check(list, query));
    let (part, limit) = match checked {
        Ok(checked) => checked,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
    };
    let turn = |part| requests.send(Request::List(list, part));
    macro_rules! page_of {
        ($rows:ident) => {
            respond(
                gather(part, limit, turn, |reply| match reply {
                    Reply::$rows(turn) => Some(turn),
                    _ => None,
                })
                .await,
            )
        };
    }
    match list {
        List::Nodes => page_of!(Nodes),
        List::Addresses => page_of!(Addresses),
        List::Hosts => page_of!(Hosts),
        List::Networks => page_of!(Networks),
        List::Tunnels => page_of!(Tunnels),
        List::Sas => page_of!(Sas),
    }
}

fn respond<T: Serialize>(page: Result<Page<T>, ApiError>) -> Response {
    match page {
        Ok(page) => Json(page).into_response(),
        Err(error) => refuse(StatusCode::UNPROCESSABLE_ENTITY, error),
    }
}

/// Where to begin, and how many rows to return.
fn check(list: List, query: ListQuery) -> Result<(Part, usize), ApiError> {
    let of_all = matches!(list, List::Hosts | List::Tunnels | List::Sas);
    if let Some(vni) = query.vni.filter(|_| of_all) {
        return Err(ApiError::new(
            format!("those of network {vni}"),
            "those of all networks",
            "leave out vni=",
        ));
    }
    let limit = query.limit.unwrap_or(MOST_ROWS);
    if !(1..=MOST_ROWS).contains(&limit) {
        let expected = format!("1 to {MOST_ROWS}");
        return Err(ApiError::new(format!("limit={limit}"), expected, "ask for more pages instead"));
    }
    let from = query.after.as_deref().map_or(Ok(Cursor::default()), read)?;
    Ok((Part { vni: query.vni, from, at_most: MAX_TURN_ROWS }, limit))
}

/// A cursor as text for clients.
fn write(cursor: Cursor) -> String {
    format!("{:08x}.{:x}.{:x}", *PROCESS, cursor.0, cursor.1)
}

fn read(text: &str) -> Result<Cursor, ApiError> {
    let wrong = |what: &str| {
        ApiError::new(
            format!("after={text}, {what}"),
            "the `next` of an earlier page",
            "begin again without after=",
        )
    };
    let mut parts = text.split('.').map(|part| u64::from_str_radix(part, 16).ok());
    match [parts.next(), parts.next(), parts.next(), parts.next()] {
        [Some(Some(process)), Some(Some(a)), Some(Some(b)), None] if process == u64::from(*PROCESS) => {
            Ok(Cursor(a, b))
        }
        [Some(Some(_)), Some(Some(_)), Some(Some(_)), None] => {
            Err(wrong("which is of an appliance that was restarted since"))
        }
        _ => Err(wrong("which is no cursor")),
    }
}

/// Takes turns until there are `limit` rows, or no more.
async fn gather<T, F: Future<Output = Result<Reply, ApiError>>>(
    mut part: Part,
    limit: usize,
    turn: impl Fn(Part) -> F,
    extract: impl Fn(Reply) -> Option<Turn<T>>,
) -> Result<Page<T>, ApiError> {
    let mut rows = Vec::new();
    for _ in 0..MAX_TURNS {
        part.at_most = limit - rows.len();
        let reply = turn(part).await?;
        let turn = extract(reply)
            .ok_or_else(|| ApiError::new("rows of another list", "those asked for", "tell the developers"))?;
        rows.extend(turn.rows);
        let Some(next) = turn.next else { return Ok(Page { rows, next: None }) };
        part.from = next;
        if rows.len() >= limit {
            break;
        }
    }
    Ok(Page { rows, next: Some(write(part.from)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use stopover_ctl::AddressEntry;

    fn query(after: Option<&str>, limit: Option<usize>) -> ListQuery {
        ListQuery { vni: None, after: after.map(str::to_owned), limit }
    }

    #[test]
    fn cursor_belongs_to_one_process() {
        let cursor = Cursor(7, u64::MAX);
        let (part, limit) = check(List::Nodes, query(Some(&write(cursor)), None)).unwrap();
        assert_eq!((part.from, limit), (cursor, MOST_ROWS));
        let other = format!("{:08x}.7.7", !*PROCESS);
        let error = check(List::Nodes, query(Some(&other), None)).unwrap_err().to_string();
        assert!(error.contains("restarted since") && error.contains("begin again"), "{error}");
        for wrong in ["", "7", "x.7.7", "1.2.3.4"] {
            let error = check(List::Nodes, query(Some(wrong), None)).unwrap_err().to_string();
            assert!(error.contains("no cursor"), "{error}");
        }
        for limit in [0, MOST_ROWS + 1] {
            assert!(check(List::Nodes, query(None, Some(limit))).is_err(), "{limit}");
        }
    }

    #[tokio::test]
    async fn page_takes_as_many_turns_as_it_needs() {
        let parts = RefCell::new(Vec::new());
        let row = AddressEntry {
            vni: "100".parse().unwrap(),
            ip: "10.0.0.1".parse().unwrap(),
            mac: "52:54:00:00:00:01".parse().unwrap(),
        };
        // A list of 10 rows; a turn returns three at most.
        let turn = |part: Part| {
            parts.borrow_mut().push(part);
            let count = part.at_most.min(3).min(10 - part.from.1 as usize) as u64;
            let next = Some(Cursor(0, part.from.1 + count)).filter(|next| next.1 < 10);
            std::future::ready(Ok(Reply::Addresses(Turn { rows: vec![row.clone(); count as usize], next })))
        };
        let extract = |reply| match reply {
            Reply::Addresses(turn) => Some(turn),
            _ => None,
        };
        let part = Part { vni: None, from: Cursor::default(), at_most: MAX_TURN_ROWS };
        let page = gather(part, 7, turn, extract).await.unwrap();
        assert_eq!((page.rows.len(), page.next), (7, Some(write(Cursor(0, 7)))));
        let requested: Vec<_> = parts.take().iter().map(|p| (p.from.1, p.at_most)).collect();
        assert_eq!(requested, [(0, 7), (3, 4), (6, 1)]);
        let rest = gather(Part { from: Cursor(0, 7), ..part }, 7, turn, extract).await.unwrap();
        assert_eq!((rest.rows.len(), rest.next), (3, None));
        // Turns that find nothing end a page as well.
        let nothing = |part: Part| {
            let next = Some(Cursor(0, part.from.1 + 1));
            std::future::ready(Ok(Reply::Addresses(Turn { rows: Vec::new(), next })))
        };
        let page = gather(part, 7, nothing, extract).await.unwrap();
        assert_eq!((page.rows.len(), page.next), (0, Some(write(Cursor(0, MAX_TURNS as u64)))));
    }
}
