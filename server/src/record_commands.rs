//! `sallyport-server registry show | set-basis | set-custody | set-visits | end-visits`.

use clap::Subcommand;
use sallyport_domain::{Due, SubjectId, Timestamp};
use sallyport_server::consultations::Given;
use sallyport_server::records::{self, LegalBasis, Set, View, Visits};
use sallyport_server::{audit, profiles};
use sallyport_transparency::Entry;

use super::log_commands::moment;
use super::{ACTOR, Data, open};

/// The record in full.
#[derive(Subcommand)]
pub(super) enum Record {
    /// Show everything kept about a person but templates and pictures: a consultation, logged.
    Show {
        /// Who.
        subject: SubjectId,
        /// incident, complaint, inspection, release_check, own_request, identity_check or emergency.
        #[arg(long)]
        reason: String,
        /// Case number; needed for all but the last two reasons.
        #[arg(long, default_value = "", hide_default_value = true)]
        case: String,
        /// In your words; needed for an emergency. Kept sealed beside the log entry.
        #[arg(long, default_value = "", hide_default_value = true)]
        words: String,
        #[command(flatten)]
        data: Data,
    },
    /// Record why the law lets the facility know this person.
    SetBasis {
        /// Who.
        subject: SubjectId,
        /// sentence, remand, other_order, visit_rules, employment, contract, official_duty or consent.
        #[arg(value_parser = basis)]
        basis: LegalBasis,
        /// Why; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        data: Data,
    },
    /// Record a prisoner's sentence or remand reference; without it, remove it.
    SetCustody {
        /// Who.
        subject: SubjectId,
        /// The reference; kept sealed.
        reference: Option<String>,
        /// Why; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        data: Data,
    },
    /// Record that a visitor's visits to a prisoner are approved. It is a record only: gates follow status and policy.
    SetVisits {
        /// The visitor.
        subject: SubjectId,
        /// The prisoner.
        prisoner: SubjectId,
        /// From, such as 2026-11-23T22:00:00Z.
        #[arg(long, value_parser = moment)]
        from: Timestamp,
        /// Until.
        #[arg(long, value_parser = moment)]
        until: Timestamp,
        /// Why; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        data: Data,
    },
    /// Remove the record of a visitor's visits to a prisoner.
    EndVisits {
        /// The visitor.
        subject: SubjectId,
        /// The prisoner.
        prisoner: SubjectId,
        /// Why; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        data: Data,
    },
}

fn basis(text: &str) -> Result<LegalBasis, String> {
    let found = LegalBasis::ALL
        .into_iter()
        .find(|basis| basis.code() == text);
    found.ok_or_else(|| {
        format!(
            "use one of: {}",
            LegalBasis::ALL.map(LegalBasis::code).join(", ")
        )
    })
}

fn print(view: &View) {
    let record = &view.subject.record;
    let details = &record.details;
    println!("{}  {}", view.subject.id, record.name);
    println!("category      {}", record.category.code());
    println!("status        {}", record.status.code());
    println!(
        "doors open    {}",
        record.effective_from.to_rfc3339_seconds()
    );
    println!(
        "legal basis   {}  (profile: {})",
        details.basis.map_or("not recorded", LegalBasis::code),
        view.clause
    );
    if let Some(custody) = &details.custody {
        println!("custody       {custody}");
    }
    for visits in &details.visits {
        println!(
            "visits        {}  from {} until {}",
            visits.prisoner,
            visits.from.to_rfc3339_seconds(),
            visits.until.to_rfc3339_seconds()
        );
    }
    if let Some((into, at)) = view.merged_into {
        println!("merged        into {into} at {}", at.to_rfc3339_seconds());
    }
    for other in &view.merged {
        println!("merged        {other} is this person, too");
    }
    if let Some(wing) = &view.wing {
        println!("wing          {wing}");
    }
    if view.has_group {
        println!("group         recorded; used for the monthly rates only, shown nowhere");
    }
    for reference in &view.references {
        println!(
            "reference     {}  {}  since {}  at {}  quality {}  model {}{}",
            reference.id,
            reference.modality.code(),
            reference.since.to_rfc3339_seconds(),
            reference.device.as_deref().unwrap_or("(not recorded)"),
            reference.quality.map_or_else(
                || "(not recorded)".to_owned(),
                |value| format!("{value:.0}")
            ),
            reference.model,
            if reference.photograph {
                "  with photograph"
            } else {
                ""
            }
        );
    }
    for item in &view.items {
        let due = match item.due {
            Due::At(moment) => format!("until {}", moment.to_rfc3339_seconds()),
            Due::Held => "legal hold".to_owned(),
            Due::NotBegun => "term has not begun".to_owned(),
        };
        println!(
            "kept          {}: {due}  {}",
            profiles::name(item.kind),
            item.source
        );
    }
    for hold in &view.holds {
        println!("legal hold    {hold}");
    }
    for change in &view.changes {
        println!(
            "log {:<9} {}  {} {}",
            change.log_index,
            change.at.to_rfc3339_seconds(),
            change.kind,
            change.decision
        );
    }
}

async fn show(subject: SubjectId, given: &Given, words: &str, data: &Data) -> anyhow::Result<()> {
    let state = open(data).await?;
    anyhow::ensure!(
        state.store.subject(subject).await?.is_some(),
        "there is no such subject"
    );
    let entry = Entry {
        actor: Some(ACTOR.to_owned()),
        subject: Some(subject.to_string()),
        about: Some(subject.to_string()),
        decision: Some("record".to_owned()),
        reason: Some(given.text()),
        ..audit::entry("consultation", state.clock.now())?
    };
    // Before anything is opened.
    let mut write = state.store.write().await?;
    let words = Some(words.trim().as_bytes()).filter(|words| !words.is_empty());
    audit::append(&state, &mut write, entry, words).await?;
    write.commit().await?;
    print(&records::view(&state, subject).await?);
    Ok(())
}

pub(super) async fn run(command: Record) -> anyhow::Result<()> {
    let (subject, set, reason, data) = match command {
        Record::Show {
            subject,
            reason,
            case,
            words,
            data,
        } => {
            let given = Given::parse(&reason, &case, &words)?;
            return show(subject, &given, &words, &data).await;
        }
        Record::SetBasis {
            subject,
            basis,
            reason,
            data,
        } => (subject, Set::Basis(basis), reason, data),
        Record::SetCustody {
            subject,
            reference,
            reason,
            data,
        } => (subject, Set::Custody(reference), reason, data),
        Record::SetVisits {
            subject,
            prisoner,
            from,
            until,
            reason,
            data,
        } => {
            let visits = Visits {
                prisoner,
                from,
                until,
            };
            (subject, Set::Visits(visits), reason, data)
        }
        Record::EndVisits {
            subject,
            prisoner,
            reason,
            data,
        } => (subject, Set::EndVisits(prisoner), reason, data),
    };
    let index = records::set(&open(&data).await?, subject, &set, &reason, ACTOR).await?;
    println!("Recorded: log entry {index}.");
    Ok(())
}
