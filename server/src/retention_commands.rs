//! `sallyport-server retention …` and `sallyport-server profile …`.

use clap::Subcommand;
use sallyport_domain::{Due, SubjectCategory, SubjectId, Timestamp};
use sallyport_server::approvals::{Asked, Kind};
use sallyport_server::proposals::Proposed;
use sallyport_server::retention::{self, Event, Item, Picture};
use sallyport_server::{audit, profiles};

use super::approval_commands::{Second, approved};
use super::log_commands::moment;
use super::{ACTOR, Data, open};

/// Data leave when their purpose ends. A running server does it every day by itself.
#[derive(Subcommand)]
pub(super) enum Retention {
    /// List everything kept, by pseudonym: what, until when, by which clause.
    List(Data),
    /// Delete what is due, now.
    Run(Data),
    /// Exit with an error when anything is kept longer than a day after it was due.
    Check(Data),
    /// Record something from which terms are counted. A supervisor approves it first.
    Event {
        /// Who.
        subject: SubjectId,
        /// released, employment_ended, deletion_requested or last_visit.
        #[arg(value_parser = event)]
        event: Event,
        /// When, such as 2026-11-23T22:00:00Z; without it, today.
        #[arg(long, value_parser = moment)]
        at: Option<Timestamp>,
        /// Why; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
    /// Place a legal hold: nothing that was lawful to keep about this person is deleted while it stands. A supervisor approves it first.
    Hold {
        /// Who.
        subject: SubjectId,
        /// Why, with the order's number; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
    /// Lift a legal hold. A supervisor approves it first.
    Lift {
        /// Who.
        subject: SubjectId,
        /// Its name, as `hold` printed it.
        hold: String,
        /// Why; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
}

/// The jurisdiction profile: what may be kept about whom, for which purposes, and until when.
#[derive(Subcommand)]
pub(super) enum ProfileCommand {
    /// Say which one holds, with its rules.
    Show(Data),
    /// Set the one that holds from now on: nsw-2014, uk, eu-led, us-generic, or a file. A supervisor approves it first.
    Set {
        /// Name or file.
        profile: String,
        /// Why; kept sealed beside the log entry.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
    /// Print what people are told, to be given or read to them.
    Notice {
        /// prisoner, visitor, legal_representative, contractor, staff, official or other.
        #[arg(value_parser = category)]
        category: SubjectCategory,
        #[command(flatten)]
        data: Data,
    },
}

fn event(text: &str) -> Result<Event, String> {
    let found = Event::ALL.into_iter().find(|event| event.code() == text);
    found.ok_or_else(|| format!("use one of: {}", Event::ALL.map(Event::code).join(", ")))
}

fn category(text: &str) -> Result<SubjectCategory, String> {
    SubjectCategory::from_code(text).ok_or_else(|| {
        let known = SubjectCategory::ALL.map(SubjectCategory::code);
        format!("use one of: {}", known.join(", "))
    })
}

fn in_words(due: Due) -> String {
    match due {
        Due::At(moment) => format!("until {}", moment.to_rfc3339_seconds()),
        Due::Held => "legal hold".to_owned(),
        Due::NotBegun => "term has not begun".to_owned(),
    }
}

fn print(item: &Item) {
    let due = in_words(item.due);
    let kind = profiles::name(item.kind);
    println!("{}  {kind:16}  {due:26}  {}", item.subject, item.source);
}

fn print_picture(picture: &Picture, source: &str) {
    let due = in_words(picture.due);
    let kind = "passage picture";
    println!("{}  {kind:16}  {due:26}  {source}", picture.passage);
}

pub(super) async fn run(command: Retention) -> anyhow::Result<()> {
    match command {
        Retention::List(data) => {
            let state = open(&data).await?;
            let kept = retention::list(&state, ACTOR).await?;
            kept.items.iter().for_each(print);
            let held = state.profile();
            let source = &held.profile.unrecognised().source;
            for picture in &kept.pictures {
                print_picture(picture, source);
            }
            println!(
                "{} pieces of personal data, {} pictures of passages, {} people unreadable.",
                kept.items.len(),
                kept.pictures.len(),
                kept.unreadable
            );
        }
        Retention::Run(data) => {
            let done = retention::run(&open(&data).await?, ACTOR).await?;
            println!(
                "{} pieces deleted, {} people erased, {} pictures of passages deleted, {} pieces held, {} were overdue, {} people unreadable. Running servers take it up within a second.",
                done.deleted, done.erased, done.pictures, done.held, done.overdue, done.unreadable
            );
        }
        Retention::Check(data) => {
            let state = open(&data).await?;
            let kept = retention::list(&state, ACTOR).await?;
            let now = state.clock.now();
            let items: Vec<&Item> = kept.items.iter().filter(|i| i.is_overdue(now)).collect();
            items.iter().for_each(|item| print(item));
            let held = state.profile();
            let mut overdue = items.len();
            for picture in kept.pictures.iter().filter(|p| p.is_overdue(now)) {
                print_picture(picture, &held.profile.unrecognised().source);
                overdue += 1;
            }
            anyhow::ensure!(
                overdue == 0 && kept.unreadable == 0,
                "{overdue} pieces of personal data are kept longer than the law allows, {} people's records could not be opened; run `sallyport-server retention run`, and ask why the server did not",
                kept.unreadable
            );
            println!("Nothing is overdue.");
        }
        Retention::Event {
            subject,
            event,
            at,
            reason,
            second,
            data,
        } => {
            let state = open(&data).await?;
            // A day, so that the same command is the same request.
            let at = at.unwrap_or_else(|| day_of(state.clock.now()));
            let change = Proposed::Event { event, at };
            approved(&state, &change.asked(subject, &reason), &second).await?;
            let index = retention::record(&state, subject, event, at, &reason, ACTOR).await?;
            println!("{}: log entry {index}.", event.code());
        }
        Retention::Hold {
            subject,
            reason,
            second,
            data,
        } => {
            let state = open(&data).await?;
            approved(&state, &Proposed::Hold.asked(subject, &reason), &second).await?;
            let name = retention::hold(&state, subject, &reason, ACTOR).await?;
            println!("{name}");
        }
        Retention::Lift {
            subject,
            hold,
            reason,
            second,
            data,
        } => {
            let state = open(&data).await?;
            let change = Proposed::Lift { hold: hold.clone() };
            approved(&state, &change.asked(subject, &reason), &second).await?;
            let index = retention::lift(&state, subject, &hold, &reason, ACTOR).await?;
            println!("Lifted: log entry {index}.");
        }
    }
    Ok(())
}

/// The beginning of a day, UTC.
fn day_of(at: Timestamp) -> Timestamp {
    const DAY_US: i64 = 24 * 3_600 * 1_000_000;
    Timestamp::from_micros(at.as_micros().div_euclid(DAY_US) * DAY_US)
}

pub(super) async fn profile(command: ProfileCommand) -> anyhow::Result<()> {
    match command {
        ProfileCommand::Show(data) => {
            let state = open(&data).await?;
            profiles::current(&state).await?;
            let held = state.profile();
            let set_by = match held.set_by {
                Some(index) => format!("set by log entry {index}"),
                None => {
                    "the server's own; set yours with `sallyport-server profile set`".to_owned()
                }
            };
            println!(
                "{} version {}: {}\nSHA-256 {}, {set_by}",
                held.profile.name(),
                held.profile.version(),
                held.profile.law(),
                held.sha256
            );
            for category in SubjectCategory::ALL {
                println!("\n{}", profiles::notice(&held, category));
            }
            let list = held.profile.groups();
            let confirm = if list.to_confirm {
                "; to be confirmed by the operator"
            } else {
                ""
            };
            println!("\nDemographic groups ({}{confirm}):", list.source);
            for group in &list.groups {
                println!("- {}: {}", group.code, group.words);
            }
        }
        ProfileCommand::Set {
            profile,
            reason,
            second,
            data,
        } => {
            let text = profiles::read(&profile)?;
            let state = open(&data).await?;
            let asked = Asked {
                kind: Kind::Profile,
                subject: None,
                officer: None,
                what: format!(
                    "From now on the jurisdiction profile {profile} holds (SHA-256 of its text {}): what may be kept, for how long, and what people are told.",
                    profiles::sha256(&text)
                ),
                reason: reason.clone(),
            };
            approved(&state, &asked, &second).await?;
            let index = profiles::set(&state, &text, &reason, ACTOR).await?;
            audit::publish(&state).await?;
            println!(
                "It holds from now on: log entry {index}. Running servers take it up within five minutes, or at once after a restart."
            );
        }
        ProfileCommand::Notice { category, data } => {
            let state = open(&data).await?;
            profiles::current(&state).await?;
            println!("{}", profiles::notice(&state.profile(), category));
        }
    }
    Ok(())
}
