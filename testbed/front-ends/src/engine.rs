//! The loop that polls all front ends and sends what is due. Enters: events, which are commands and front ends that other
//! threads have set up. Leaves: answers.

use std::collections::HashMap;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use crate::command::{self, Add, Answer, Command, Row, Send};
use crate::flows::{Flows, Number};
use crate::frame::{Station, Template};
use crate::front_end::FrontEnd;
use crate::job::{Job, JobFlow, Step};

/// The pause of an idle loop.
const PAUSE: Duration = Duration::from_micros(50);

/// What other threads report.
pub enum Event {
    /// A line of standard input.
    Line(String),
    /// The end of standard input.
    End,
    /// A front end's rings are enabled, or not.
    Opened(Number, anyhow::Result<Box<FrontEnd>>),
    /// A back end has enabled so many queue pairs, or not.
    Enabled(Number, u16, anyhow::Result<()>),
    /// A front end is closed, or its back end did not answer.
    Closed(String, anyhow::Result<()>),
}

/// All front ends and what they do.
pub struct Engine {
    events: Receiver<Event>,
    reports: Sender<Event>,
    /// By number. A front end that is being added or was removed has none.
    front_ends: Vec<Option<FrontEnd>>,
    names: Vec<String>,
    numbers: HashMap<String, Number>,
    /// By number, also of front ends that were removed: others can send to them.
    stations: Vec<Option<Station>>,
    /// Front ends that other threads set up.
    opening: Vec<Number>,
    /// Front ends whose link is not up yet.
    linking: Vec<Number>,
    /// Front ends that are to use so many queue pairs as soon as the rings of the others are empty.
    draining: Vec<(Number, u16)>,
    flows: Flows,
    job: Option<Job>,
}

impl Engine {
    /// For events that arrive at `events`. Its own threads report to `reports`, the other end of it.
    pub fn new(events: Receiver<Event>, reports: Sender<Event>) -> Self {
        Self {
            events,
            reports,
            front_ends: Vec::new(),
            names: Vec::new(),
            numbers: HashMap::new(),
            stations: Vec::new(),
            opening: Vec::new(),
            linking: Vec::new(),
            draining: Vec::new(),
            flows: Flows::default(),
            job: None,
        }
    }

    /// Runs until the end of standard input.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn run(mut self) -> anyhow::Result<()> {
        answer(&Answer::Ready)?;
        loop {
            match self.events.try_recv() {
                Ok(Event::End) | Err(TryRecvError::Disconnected) => return Ok(()),
                Ok(event) => self.event(event)?,
                Err(TryRecvError::Empty) => {}
            }
            let received = self.poll()?;
            let sent = self.work(received)?;
            if !self.linking.is_empty() {
                self.links()?;
            }
            if !self.draining.is_empty() {
                self.drained()?;
            }
            if received + sent == 0 {
                if self.job.is_some() { thread::yield_now() } else { thread::sleep(PAUSE) }
            }
        }
    }

    fn event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Line(line) => {
                if let Err(e) = command::parse(&line).and_then(|command| self.command(command)) {
                    failed(None, &e)?;
                }
                Ok(())
            }
            Event::Opened(number, result) => {
                self.opening.retain(|n| *n != number);
                match result {
                    Ok(front_end) => self.opened(*front_end),
                    Err(e) => failed(self.names.get(number).cloned(), &e),
                }
            }
            Event::Enabled(number, pairs, result) => self.enabled(number, pairs, result),
            Event::Closed(name, Ok(())) => answer(&Answer::Removed { name }),
            Event::Closed(name, Err(e)) => failed(Some(name), &e),
            Event::End => Ok(()),
        }
    }

    fn command(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Add(add) => self.add(*add),
            Command::Remove(remove) => {
                let number = self.number(&remove.name)?;
                let front_end = self.front_ends.get_mut(number).and_then(Option::take);
                let front_end = front_end.with_context(|| format!("{} is not there", remove.name))?;
                self.linking.retain(|n| *n != number);
                let reports = self.reports.clone();
                thread::spawn(move || {
                    // The loop has ended if nobody receives it.
                    let _ = reports.send(Event::Closed(remove.name, front_end.close(remove.abrupt)));
                });
                Ok(())
            }
            Command::Enable(enable) => {
                let number = self.number(&enable.name)?;
                let front_end = self.front_ends.get_mut(number).and_then(Option::as_mut);
                front_end.with_context(|| format!("{} is not there", enable.name))?.prepare(enable.pairs)?;
                self.draining.push((number, enable.pairs));
                Ok(())
            }
            Command::Send(send) => self.send(&send),
            Command::Stop {} => {
                self.job.as_mut().context("nothing is sent")?.stop();
                Ok(())
            }
            Command::Stats {} => self.stats(),
        }
    }

    fn number(&self, name: &str) -> anyhow::Result<Number> {
        self.numbers.get(name).copied().with_context(|| format!("{name} is not known"))
    }

    fn add(&mut self, add: Add) -> anyhow::Result<()> {
        let began = Instant::now();
        let number = match self.numbers.get(&add.name) {
            Some(number) => *number,
            None => {
                self.numbers.insert(add.name.clone(), self.names.len());
                self.names.push(add.name.clone());
                self.front_ends.push(None);
                self.stations.push(None);
                self.names.len() - 1
            }
        };
        if self.front_ends.get(number).is_some_and(Option::is_some) || self.opening.contains(&number) {
            bail!("{} has been added", add.name);
        }
        self.opening.push(number);
        let reports = self.reports.clone();
        thread::spawn(move || {
            let deadline = began + Duration::from_millis(add.timeout_ms);
            let opened = FrontEnd::open(&add, number, began, deadline).map(Box::new);
            let _ = reports.send(Event::Opened(number, opened));
        });
        Ok(())
    }

    fn opened(&mut self, mut front_end: FrontEnd) -> anyhow::Result<()> {
        if let Err(e) = front_end.announce() {
            return failed(Some(front_end.name), &e);
        }
        let number = front_end.number;
        if let (Some(place), Some(station)) = (self.front_ends.get_mut(number), self.stations.get_mut(number))
        {
            *station = Some(front_end.station);
            *place = Some(front_end);
            self.linking.push(number);
        }
        Ok(())
    }

    /// Reports the front ends whose link has come up, or has not in time.
    fn links(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        for number in std::mem::take(&mut self.linking) {
            let Some(Some(front_end)) = self.front_ends.get(number) else { continue };
            if front_end.is_up() {
                answer(&Answer::Added {
                    name: front_end.name.clone(),
                    setup_ms: front_end.setup_ms,
                    link_ms: now.duration_since(front_end.began).as_secs_f64() * 1e3,
                    features: front_end.features(),
                })?;
            } else if now > front_end.deadline {
                self.give_up(number, &anyhow!("the back end has enabled the rings, but took no frame"))?;
            } else {
                self.linking.push(number);
            }
        }
        Ok(())
    }

    /// Has the rings of front ends enabled and disabled whose other rings are empty.
    fn drained(&mut self) -> anyhow::Result<()> {
        for (number, pairs) in std::mem::take(&mut self.draining) {
            let Some(Some(front_end)) = self.front_ends.get_mut(number) else { continue };
            match front_end.is_drained() {
                Ok(true) => {
                    let (switch, reports) = (front_end.switch(), self.reports.clone());
                    thread::spawn(move || {
                        let _ = reports.send(Event::Enabled(number, pairs, switch.enable(pairs)));
                    });
                }
                Ok(false) => self.draining.push((number, pairs)),
                Err(e) => self.give_up(number, &e)?,
            }
        }
        Ok(())
    }

    fn enabled(&mut self, number: Number, pairs: u16, result: anyhow::Result<()>) -> anyhow::Result<()> {
        let Some(Some(front_end)) = self.front_ends.get_mut(number) else { return Ok(()) };
        let name = front_end.name.clone();
        match result {
            Ok(()) => {
                front_end.switched(pairs);
                answer(&Answer::Enabled { name, pairs })
            }
            Err(e) => failed(Some(name), &e),
        }
    }

    fn send(&mut self, send: &Send) -> anyhow::Result<()> {
        if self.job.is_some() {
            bail!("frames are being sent");
        }
        let mut flows = Vec::with_capacity(send.flows.len());
        for (from, to) in &send.flows {
            let (from, to) = (self.number(from)?, self.number(to)?);
            let station = |n: Number| {
                self.stations.get(n).copied().flatten().context("a front end has never been there")
            };
            let (sender, receiver) = (station(from)?, station(to)?);
            if let Some(Some(sender)) = self.front_ends.get(from)
                && !sender.fits(send.size)
            {
                bail!("a frame of {} bytes does not fit a buffer of {}", send.size, sender.name);
            }
            let flow = self.flows.between(from, to);
            let template = Template::new(sender, receiver, flow, send.size, send.unfinished);
            flows.push(JobFlow { from, flow, template });
        }
        self.job = Some(Job::new(send, flows, self.flows.total()));
        Ok(())
    }

    /// Polls all front ends. One whose back end breaks the rules is given up.
    fn poll(&mut self) -> anyhow::Result<usize> {
        let (mut frames, mut broken) = (0, Vec::new());
        for (number, place) in self.front_ends.iter_mut().enumerate() {
            let Some(front_end) = place else { continue };
            match front_end.poll(&mut self.flows) {
                Ok(n) => frames += n,
                Err(e) => broken.push((number, e)),
            }
        }
        for (number, e) in broken {
            self.give_up(number, &e)?;
        }
        Ok(frames)
    }

    /// Closes a front end, and reports why.
    fn give_up(&mut self, number: Number, e: &anyhow::Error) -> anyhow::Result<()> {
        let front_end = self.front_ends.get_mut(number).and_then(Option::take);
        failed(front_end.map(|front_end| front_end.name), e)
    }

    /// Sends what is due, after a round that has received so many frames. Returns how many were sent.
    fn work(&mut self, received: usize) -> anyhow::Result<usize> {
        let Some(job) = &mut self.job else { return Ok(0) };
        let (mut sent, mut broken) = (0, Vec::new());
        let now_ns = job.now_ns();
        match job.step(now_ns) {
            Step::Burst(n) => {
                let burst = job.burst;
                if let Some(flow) = job.flows.get_mut(n) {
                    let place = self.front_ends.get_mut(flow.from);
                    match place.and_then(Option::as_mut).map(|from| from.send(flow, burst, &mut self.flows)) {
                        Some(Ok(n)) => {
                            sent = n;
                            job.refused += u64::from(burst - n);
                        }
                        Some(Err(e)) => broken.push((flow.from, e)),
                        None => job.absent += u64::from(burst),
                    }
                }
            }
            Step::Wait => {}
            Step::End => {
                let report = job.report(self.flows.total());
                self.job = None;
                answer(&Answer::Sent(report))?;
                return Ok(0);
            }
        }
        job.round(now_ns, received, usize::from(sent));
        for (number, e) in broken {
            self.give_up(number, &e)?;
        }
        Ok(usize::from(sent))
    }

    fn stats(&self) -> anyhow::Result<()> {
        let rows = self.names.iter().zip(&self.front_ends).zip(self.flows.by_front_end(self.names.len()));
        let front_ends = rows
            .map(|((name, place), count)| Row { name: name.clone(), up: place.is_some(), count })
            .collect();
        answer(&Answer::Stats { total: self.flows.total(), front_ends })
    }
}

fn failed(name: Option<String>, error: &anyhow::Error) -> anyhow::Result<()> {
    answer(&Answer::Error { name, error: format!("{error:#}") })
}

fn answer(answer: &Answer) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn command(engine: &mut Engine, line: &str) -> String {
        match command::parse(line).and_then(|command| engine.command(command)) {
            Ok(()) => "done".into(),
            Err(e) => format!("{e:#}"),
        }
    }

    #[test]
    fn a_name_stands_for_one_front_end() {
        let (reports, events) = channel();
        let mut engine = Engine::new(events, reports);
        let add = r#"{"add": {"name": "a", "socket": "/nowhere/a", "mac": "02:00:00:00:00:01", "ip": "10.0.0.1",
            "timeout_ms": 0}}"#;
        assert_eq!(command(&mut engine, r#"{"remove": {"name": "a"}}"#), "a is not known");
        assert_eq!(command(&mut engine, add), "done");
        assert_eq!(command(&mut engine, add), "a has been added");
        assert_eq!(command(&mut engine, r#"{"remove": {"name": "a"}}"#), "a is not there");
        let opened = engine.events.recv().unwrap();
        assert!(matches!(opened, Event::Opened(0, Err(_))));
        engine.event(opened).unwrap();
        assert_eq!(command(&mut engine, add), "done");
        assert_eq!(engine.names, ["a"]);
    }

    #[test]
    fn frames_need_front_ends_that_have_been_there() {
        let (reports, events) = channel();
        let mut engine = Engine::new(events, reports);
        let send = r#"{"send": {"flows": [["a", "a"]], "pps": 1}}"#;
        assert_eq!(command(&mut engine, send), "a is not known");
        assert_eq!(command(&mut engine, r#"{"stop": {}}"#), "nothing is sent");
        engine.numbers.insert("a".into(), 0);
        engine.stations.push(None);
        assert_eq!(command(&mut engine, send), "a front end has never been there");
        engine.stations = vec![Some(Station { mac: [2; 6], ip: std::net::Ipv4Addr::LOCALHOST })];
        assert_eq!(command(&mut engine, send), "done");
        assert_eq!(command(&mut engine, send), "frames are being sent");
        // Nobody is there to send the frame that is due at once.
        engine.work(0).unwrap();
        assert_eq!(engine.job.unwrap().absent, 32);
    }
}
