//! How cost grows: with filters, fields, bytes of body, connections.

use super::start_all;
use crate::awake::Awake;
use crate::load::{self, Shape};
use crate::measure::{descriptors_max, memory};
use crate::plan::Plan;
use crate::report::Report;
use crate::statistics::shape;
use crate::subject::pillion::no_ops;
use crate::subject::{self, HYPER, NGINX, PILLION, PILLION_THREE, Proxy, Roster, Subject};
use crate::table::{Column, Table};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const FILTERS: &[Column] = &[("cpu_us", "CPU a request, µs", 2)];
const PEERS: &[Column] = &[
    (HYPER, HYPER, 1),
    (NGINX, NGINX, 1),
    (PILLION, PILLION, 1),
    (PILLION_THREE, PILLION_THREE, 1),
];
const CONNECTIONS: &[Column] = &[("cpu_us", "CPU a request, µs", 1), ("rss_mib", "RSS, MiB", 2)];
/// Connections with requests; the others are open and idle.
const BUSY: usize = 32;

pub(crate) async fn run(plan: &Plan, roster: &Roster, origin: SocketAddr, report: &mut Report) {
    filters(plan, report).await;
    fields(plan, roster, origin, report).await;
    body_sizes(plan, roster, report).await;
    connections(plan, roster, origin, report).await;
}

/// Beside load that never sleeps: the difference is a fraction of what waking it costs.
async fn filters(plan: &Plan, report: &mut Report) {
    let awake = match Awake::start() {
        Ok(awake) => awake,
        Err(error) => return report.skip(format!("curve of filters: {error}")),
    };
    let mut table = Table::new("curve_filters", "Curve: no-op filters", FILTERS);
    let mut running = Vec::new();
    for count in 0..=10 {
        let subject = Subject::pillion("Pillion", move |setup| no_ops(setup, count));
        match subject.start(awake.origin).await {
            Ok(proxy) => running.push((count, proxy)),
            Err(reason) => report.skip(reason),
        }
    }
    for round in 1..=plan.rounds {
        for (count, proxy) in &running {
            eprintln!("curves: round {round} of {}: {count} no-op", plan.rounds);
            match load::cost_awake(proxy, plan.load(), &awake).await {
                Some(cost) => table.add(&no_op_row(*count), "cpu_us", cost.cpu_us),
                None => report.skip(format!("{count} no-op filters: no answer in round {round}")),
            }
        }
    }
    let points: Vec<_> = (0..=10).map(|count| (count as f64, no_op_row(count))).collect();
    describe(&mut table, &points, "cpu_us", "Pillion", "µs a filter");
    report.tables.push(table);
}

/// The row of so many no-op filters.
pub(crate) fn no_op_row(count: usize) -> String {
    format!("{count} no-op")
}

async fn fields(plan: &Plan, roster: &Roster, origin: SocketAddr, report: &mut Report) {
    let mut table = Table::new("curve_fields", "Curve: fields of a request, CPU in µs", PEERS);
    let running =
        start_all(roster.named(&[HYPER, NGINX, PILLION, PILLION_THREE]), origin, report).await;
    let counts = [5, 10, 20, 40, 60, 80, 90, 100];
    for round in 1..=plan.rounds {
        for count in counts {
            let field = |index| (format!("x-field-{index}"), format!("value-of-field-{index}"));
            // `host` is one of them.
            let load = Shape { fields: (1..count).map(field).collect(), ..Shape::default() };
            for (name, proxy) in &running {
                eprintln!("curves: round {round} of {}: {count} fields: {name}", plan.rounds);
                add(&mut table, &format!("{count} fields"), name, proxy, plan, &load, report).await;
            }
        }
    }
    let points: Vec<_> = counts.map(|count| (count as f64, format!("{count} fields"))).to_vec();
    for (name, _) in &running {
        describe(&mut table, &points, name, name, "µs a field");
    }
    table.remark(
        "`host` is one of the fields. A head may have 100, those included that filters add: with \
         three filters the last point is beyond it, and answered with an error.",
    );
    report.tables.push(table);
}

async fn body_sizes(plan: &Plan, roster: &Roster, report: &mut Report) {
    let mut table = Table::new("curve_bodies", "Curve: bytes of a response, CPU in µs", PEERS);
    let origin = match subject::body_origin().await {
        Ok(origin) => origin,
        Err(reason) => return report.skip(reason),
    };
    let named = roster.named(&[HYPER, NGINX, PILLION, PILLION_THREE]);
    let running = start_all(named, origin.address, report).await;
    let sizes = [0_u32, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    for round in 1..=plan.rounds {
        for size in sizes {
            let load = Shape { path: format!("/bytes/{size}"), ..Shape::default() };
            for (name, proxy) in &running {
                eprintln!("curves: round {round} of {}: {size} bytes: {name}", plan.rounds);
                add(&mut table, &format!("{size} bytes"), name, proxy, plan, &load, report).await;
            }
        }
    }
    let points: Vec<_> =
        sizes.map(|size| (f64::from(size) / 1024.0, format!("{size} bytes"))).to_vec();
    for (name, _) in &running {
        describe(&mut table, &points, name, name, "µs a KiB");
    }
    report.tables.push(table);
}

async fn connections(plan: &Plan, roster: &Roster, origin: SocketAddr, report: &mut Report) {
    let title =
        format!("Curve: open connections, up to {BUSY} of them busy, Pillion without filters");
    let mut table = Table::new("curve_connections", &title, CONNECTIONS);
    let mut points = Vec::new();
    for count in [1, 10, 100, 1_000, 10_000] {
        let row = format!("{count} connections");
        // The bench itself and the proxy hold one descriptor for each, and a few more.
        if descriptors_max() < count as u64 + 1_000 {
            report.skip(format!("{row}: a process may open {} descriptors", descriptors_max()));
            continue;
        }
        for round in 1..=plan.rounds {
            eprintln!("curves: round {round} of {}: {row}", plan.rounds);
            for (_, proxy) in start_all(roster.named(&[PILLION]), origin, report).await {
                let busy = count.min(BUSY);
                let mut idle = Vec::new();
                for _ in busy..count {
                    idle.extend(idle_connection(proxy.address).await);
                }
                if idle.len() < count - busy {
                    report.skip(format!("{row}: only {} were accepted", idle.len() + busy));
                    continue;
                }
                let load = Shape { connections: busy, ..Shape::default() };
                add(&mut table, &row, "cpu_us", &proxy, plan, &load, report).await;
                table.add(&row, "rss_mib", memory(proxy.id()).resident / 1024.0);
            }
        }
        points.push((count as f64, row));
    }
    describe(&mut table, &points, "rss_mib", "RSS", "MiB a connection");
    points.retain(|(count, _)| *count >= BUSY as f64);
    describe(&mut table, &points, "cpu_us", "CPU from 100 connections on", "µs a connection");
    table.remark(format!(
        "With fewer than {BUSY} connections the proxy sleeps and wakes between requests, and that is \
         what the first points cost."
    ));
    report.tables.push(table);
}

/// A connection that has had one request.
async fn idle_connection(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n").await.ok()?;
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).await.ok()?;
    answer[..read].starts_with(b"HTTP/1.1 200 ").then_some(stream)
}

/// Measures one point once. One at which requests fail is left out, as it measures something else.
async fn add(
    table: &mut Table,
    row: &str,
    column: &str,
    proxy: &Proxy,
    plan: &Plan,
    load: &Shape,
    report: &mut Report,
) {
    match load::cost(proxy, plan.load(), load).await {
        Some(cost) if cost.load.failed == 0 => table.add(row, column, cost.cpu_us),
        Some(_) => report.skip(format!("{row}, {column}: requests failed")),
        None => report.skip(format!("{row}, {column}: no request was answered")),
    }
}

/// Says below the table what the medians of a column look like.
fn describe(table: &mut Table, rows: &[(f64, String)], column: &str, what: &str, unit: &str) {
    let points = rows.iter().filter_map(|(x, row)| Some((*x, table.median(row, column)?)));
    if let Some(text) = shape(&points.collect::<Vec<_>>(), unit) {
        table.remark(format!("{what}: {text}."));
    }
}
