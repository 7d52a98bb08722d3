//! `sallyport-server`: the central server of a site.
#![expect(
    clippy::print_stdout,
    reason = "a command line program talks to the person who runs it"
)]

mod approval_commands;
mod backup_commands;
mod binding_commands;
mod break_glass_commands;
mod enrolment_commands;
mod error_rate_commands;
mod gate_commands;
mod key_commands;
mod log_commands;
mod merge_commands;
mod model_commands;
mod policy_commands;
mod promise_commands;
mod record_commands;
mod report_commands;
mod retention_commands;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use sallyport_domain::{Role, SiteId, SubjectId, SubjectStatus};
use sallyport_server::approvals::{Asked, Kind};
use sallyport_server::clock::SystemClock;
use sallyport_server::config::Config;
use sallyport_server::keys;
use sallyport_server::proposals::{self, ProposalError, Proposed};
use sallyport_server::state::AppState;
use sallyport_server::{
    approvals, consultations, demographics, hardening, installation, officers, profiles, registry,
    serve, templates,
};
use zeroize::Zeroizing;

use approval_commands::{Second, approved};
use key_commands::KeyOptions;

/// Who acted, in the log, when a command is given on the server itself.
const ACTOR: &str = "server-console";

/// The central server of a Sallyport site: registry, decisions, audit log and officers' console.
///
/// A first installation:
///   sallyport-server init --data /var/lib/sallyport --site goulburn --hostname sallyport.goulburn.example
///   sallyport-server serve --data /var/lib/sallyport     (prints a link for the first administrator)
///   sallyport-server officer setup-link --role gate_officer --data /var/lib/sallyport
///   sallyport-server gate add front-in --direction entry --data /var/lib/sallyport
///   sallyport-server gate token front-in --data /var/lib/sallyport
///
/// All commands work while the server runs, and each that changes something is an entry of the audit log.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Data {
    /// Data folder of the installation.
    #[arg(long, env = "SALLYPORT_DATA")]
    data: PathBuf,
    /// File with the passphrase, PIN or token that opens the registry's keys, where they need one. May be given several times: two
    /// custodians bring a file each.
    #[arg(long, env = "SALLYPORT_KEY_SECRET_FILE", value_delimiter = ',')]
    key_secret_file: Vec<PathBuf>,
}

impl Data {
    fn secret(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        key_commands::read_secret(&self.key_secret_file)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Make a new installation: keys, private certificate authority, database.
    Init(Init),
    /// Run the server until SIGTERM or Ctrl-C.
    Serve(Data),
    /// Bring the database to this version; with SQLite `serve` does it too.
    Migrate {
        #[command(flatten)]
        data: Data,
        /// PostgreSQL: address of the role that owns the tables. It is not stored.
        #[arg(
            long,
            env = "SALLYPORT_DATABASE_OWNER",
            hide_env_values = true,
            default_value = "",
            hide_default_value = true
        )]
        database_owner: String,
    },
    /// Gates: add, list, make join tokens, set policies, revoke.
    #[command(subcommand)]
    Gate(gate_commands::Gate),
    /// People: list, change status, remove.
    #[command(subcommand)]
    Registry(Registry),
    /// Enrolments and batches: open, list, close. A second officer decides in the console.
    #[command(subcommand)]
    Enrolment(enrolment_commands::Enrolment),
    /// Changes of models in which nobody is lost: begin, report who is left, end.
    #[command(subcommand)]
    ModelChange(model_commands::ModelChange),
    /// Data that leave when their purpose ends: list, run, check, events, legal holds.
    #[command(subcommand)]
    Retention(retention_commands::Retention),
    /// Measured error rates: load a signed measurement, show it, withdraw it.
    #[command(subcommand)]
    ErrorRates(error_rate_commands::ErrorRates),
    /// The jurisdiction profile: show, set, and what people are told.
    #[command(subcommand)]
    Profile(retention_commands::ProfileCommand),
    /// Officers' accounts.
    #[command(subcommand)]
    Officer(Officer),
    /// Rounds, counts, reviews and deletions that shall happen in time.
    #[command(subcommand)]
    Promise(promise_commands::Promise),
    /// The audit log.
    #[command(subcommand)]
    Audit(log_commands::Audit),
    /// Write an encrypted backup of the database while the server runs. It does not hold registry.key; keep that apart.
    Backup(backup_commands::Backup),
    /// Make a custodian's key pair for backups; prints the public half.
    BackupKey {
        /// New file for the private half. Keep it away from the server.
        file: PathBuf,
    },
    /// Restore a backup into a new data folder and check it before it may be served.
    Restore(backup_commands::Restoration),
}

#[derive(Args)]
struct Init {
    #[command(flatten)]
    data: Data,
    /// Name of the site: a-z, 0-9 and '-'. It is bound into every key and cannot be changed.
    #[arg(long)]
    site: SiteId,
    /// Name or address under which gates and browsers reach this server; may be given several times.
    #[arg(long = "hostname", default_value = "localhost")]
    hostnames: Vec<String>,
    /// Where gates connect.
    #[arg(long, default_value = "0.0.0.0:7443")]
    gate_listen: SocketAddr,
    /// Where browsers connect.
    #[arg(long, default_value = "0.0.0.0:8443")]
    console_listen: SocketAddr,
    /// The site's offset east of UTC in minutes, for schedules.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    utc_offset_minutes: i32,
    /// Seconds after enrolment during which doors stay shut for a new person.
    #[arg(long, default_value_t = 600)]
    cool_off_seconds: u32,
    /// Start even where the system locks too little memory, so that templates may reach a swap file. For trials.
    #[arg(long)]
    allow_unlocked_memory: bool,
    /// Jurisdiction profile: nsw-2014, uk, eu-led, us-generic, or a file. Without it the strictest of these holds (nsw-2014).
    #[arg(long)]
    profile: Option<String>,
    #[command(flatten)]
    keys: KeyOptions,
    /// New file for the recovery key, needed with --keys tpm: it opens the keys when this machine's TPM is gone.
    #[arg(long)]
    recovery_key: Option<PathBuf>,
    /// PostgreSQL address of the role that serves; without it an embedded SQLite database in the data folder.
    #[arg(long, default_value = "", hide_default_value = true)]
    database: String,
    /// PostgreSQL: address of the role that owns the tables. It is not stored.
    #[arg(
        long,
        env = "SALLYPORT_DATABASE_OWNER",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    database_owner: String,
}

#[derive(Subcommand)]
enum Registry {
    /// List subjects by pseudonym, category and status.
    List(Data),
    #[command(flatten)]
    Record(record_commands::Record),
    #[command(flatten)]
    Merging(merge_commands::Merging),
    /// Change whether a person may pass. A supervisor approves it first, unless it only suspends or bans somebody who is active.
    Status {
        /// Who.
        subject: SubjectId,
        /// active, suspended, banned, released or deceased.
        #[arg(value_parser = status)]
        status: SubjectStatus,
        /// Why; kept sealed beside the log entry.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
    /// Say in which wing a person lives; without a wing, in none. Officers of other wings do not open the record.
    Wing {
        /// Who.
        subject: SubjectId,
        /// Name of the wing.
        wing: Option<String>,
        #[command(flatten)]
        data: Data,
    },
    /// Record the demographic group that a person stated, or remove it. Only for referral rates by group in the monthly report.
    /// A supervisor approves it first.
    Group {
        /// Who.
        subject: SubjectId,
        /// Code of the group in the jurisdiction profile's list (`profile show`); without it, what was recorded is removed.
        group: Option<String>,
        /// Why, such as how the person stated it; kept sealed beside the log entry.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
    /// Remove a person with all references and the keys that open them and what the log has sealed about them. A supervisor approves
    /// it first.
    Remove {
        /// Who.
        subject: SubjectId,
        /// Why; the supervisor who approves reads it.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
    /// Make the next key-encryption key without using it up: copy registry.key to the other servers, then run rewrap.
    NewKey(Data),
    /// Rotate the key-encryption key while the server runs; after an interruption run it again.
    Rewrap(Data),
    /// Give all templates a new secret while the server runs: copies that leaked compare with nothing any more. After an
    /// interruption run it again; afterwards restart the servers.
    RenewTemplates(Data),
    /// Protect the key-encryption keys of registry.key in another way; keys and data stay as they are. Stop the servers first.
    ProtectKeys(key_commands::Protect),
    /// Write the recovery key of keys that a TPM protects, for the safe.
    RecoveryKey {
        /// New file for it.
        file: PathBuf,
        #[command(flatten)]
        data: Data,
    },
    /// Move from SQLite to an empty PostgreSQL database, log and all. Stop the server first.
    MigrateStore(backup_commands::Move),
    /// Destroy a key-encryption key that a rotation replaced. Backups made before cannot be opened with this key file any more. A
    /// supervisor approves it first.
    RetireKey {
        /// Its version.
        version: u32,
        /// Why; the supervisor who approves reads it.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
}

#[derive(Subcommand)]
enum Officer {
    /// Print a link at which an officer chooses name and password: one use, 15 minutes. A supervisor approves first, unless it is for a
    /// gate officer.
    SetupLink {
        /// Role of the account: gate_officer, enroller, supervisor, auditor, administrator or key_custodian.
        #[arg(long, default_value = "gate_officer", value_parser = role)]
        role: Role,
        /// Instead of a new account: renew the account of this name, whose officer lost password or second factor.
        #[arg(long, conflicts_with = "role")]
        renew: Option<String>,
        /// Why, such as who it is for; the supervisor who approves reads it.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        second: Second,
        #[command(flatten)]
        data: Data,
    },
    /// List accounts with their roles.
    List(Data),
    #[command(flatten)]
    Binding(binding_commands::Binding),
    /// Say which wings' people an officer needs to know; without any, all.
    Wings {
        /// Name of the account.
        name: String,
        /// Names of the wings.
        wings: Vec<String>,
        #[command(flatten)]
        data: Data,
    },
    /// End an account: its sessions end at once.
    Disable {
        /// Name of the account.
        name: String,
        #[command(flatten)]
        data: Data,
    },
    /// The sealed credential for an emergency in which nobody can sign in.
    #[command(subcommand)]
    BreakGlass(break_glass_commands::BreakGlass),
}

fn role(text: &str) -> Result<Role, String> {
    Role::from_code(text)
        .ok_or_else(|| format!("use one of: {}", Role::ALL.map(Role::code).join(", ")))
}

fn status(text: &str) -> Result<SubjectStatus, String> {
    SubjectStatus::from_code(text)
        .ok_or_else(|| "use active, suspended, banned, released or deceased".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,sqlx=warn")),
        )
        .init();
    hardening::lock_all_we_may();
    if let Err(error) = hardening::forbid_dumps() {
        tracing::error!(%error, "core dumps could not be forbidden; nothing is opened so");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = %error, "the runtime could not be started");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn open(data: &Data) -> anyhow::Result<AppState> {
    let secret = data.secret()?;
    installation::open_with(&data.data, Arc::new(SystemClock), secret.as_ref()).await
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(init) => create(init).await,
        Command::Serve(data) => {
            let secret = data.secret()?;
            serve::run(&data.data, Arc::new(SystemClock), secret).await
        }
        Command::Migrate {
            data,
            database_owner,
        } => {
            installation::migrate(&data.data, &database_owner).await?;
            let state = open(&data).await?;
            log_commands::done(&state, "migrated").await?;
            state.store.close().await;
            println!("The database is at this version.");
            Ok(())
        }
        Command::Gate(command) => gate_commands::run(command).await,
        Command::Backup(arguments) => backup_commands::backup(arguments).await,
        Command::BackupKey { file } => backup_commands::new_custodian(&file),
        Command::Restore(arguments) => backup_commands::restore(arguments).await,
        Command::Registry(command) => people(command).await,
        Command::Enrolment(command) => enrolment_commands::run(command).await,
        Command::ModelChange(command) => model_commands::run(command).await,
        Command::Retention(command) => retention_commands::run(command).await,
        Command::ErrorRates(command) => error_rate_commands::run(command).await,
        Command::Profile(command) => retention_commands::profile(command).await,
        Command::Officer(command) => officer(command).await,
        Command::Promise(command) => promise_commands::run(command).await,
        Command::Audit(command) => log_commands::run(command).await,
    }
}

async fn create(init: Init) -> anyhow::Result<()> {
    let config = Config {
        site: init.site.clone(),
        hostnames: init.hostnames.clone(),
        gate_listen: init.gate_listen,
        console_listen: init.console_listen,
        database: init.database.clone(),
        utc_offset_minutes: init.utc_offset_minutes,
        cool_off_seconds: init.cool_off_seconds,
        allow_unlocked_memory: init.allow_unlocked_memory,
        monitor_listen: None,
        oidc: None,
        officers: sallyport_server::config::OfficerRules::default(),
    };
    let owner = (!init.database_owner.is_empty()).then_some(init.database_owner.as_str());
    let keys = init.keys.setup(init.data.secret()?, "--key-secret-file")?;
    if init.keys.is_tpm() && init.recovery_key.is_none() {
        anyhow::bail!(
            "name a new file for the recovery key with --recovery-key FILE: without it everything is lost with this machine's TPM"
        );
    }
    let profile = init
        .profile
        .as_deref()
        .map(sallyport_server::profiles::read)
        .transpose()?;
    installation::create_with(&init.data.data, &config, owner, &keys, &SystemClock).await?;
    if let Some(text) = &profile {
        sallyport_server::profiles::leave_for_first_start(&init.data.data, text)
            .context("writing the profile into the data folder")?;
    }
    if let Some(file) = init.recovery_key.as_ref().filter(|_| init.keys.is_tpm()) {
        key_commands::write_recovery(&init.data.data, config.site.as_str(), file)?;
    }
    let folder = init.data.data.display();
    println!(
        "A new installation of site {} is in {folder}.\n\
         Keep {folder}/registry.key apart from backups of the database: together they open everything, and without it nothing.\n\
         Next:\n  sallyport-server serve --data {folder}\nIt prints a link at which the first administrator chooses name and password.\n\
         {}",
        config.site,
        match &init.profile {
            Some(name) => format!("The jurisdiction profile is {name}."),
            None => "No --profile was given, so the strictest shipped one holds (nsw-2014); choose yours with: sallyport-server profile set".to_owned(),
        }
    );
    Ok(())
}

async fn officer(command: Officer) -> anyhow::Result<()> {
    match command {
        Officer::SetupLink {
            role,
            renew,
            reason,
            second,
            data,
        } => {
            let state = open(&data).await?;
            let asked = |role: Role, officer, what| Asked {
                kind: Kind::Account,
                subject: None,
                officer,
                what: format!("{what} with the role {}.", role.code()),
                reason,
            };
            let link = match renew {
                Some(name) => {
                    let account = officers::find(&state, &name).await?;
                    let role = account.role.context("the account has an unknown role")?;
                    if approvals::needs_approval(role) {
                        let what = format!(
                            "A link at which the account of {} (officer {}) gets a new password and loses its second factors, which takes the account over,",
                            account.name, account.id
                        );
                        approved(&state, &asked(role, Some(account.id), what), &second).await?;
                    }
                    officers::renewal_link(&state, &name).await?
                }
                None => {
                    if approvals::needs_approval(role) {
                        let what = "A link at which somebody makes a new account".to_owned();
                        approved(&state, &asked(role, None, what), &second).await?;
                    }
                    officers::create_setup_link(&state, role).await?
                }
            };
            println!("Open this link within 15 minutes; it works once:\n{link}");
        }
        Officer::List(data) => {
            let state = open(&data).await?;
            log_commands::consulted(&state, "officer_list").await?;
            for account in officers::list(&state).await? {
                let role = account.role.map_or("(unknown role)", Role::code);
                let ended = account
                    .disabled_at
                    .map(|at| format!("\tended {}", at.to_rfc3339()))
                    .unwrap_or_default();
                let bound = match officers::is_bound(&state, account.id).await? {
                    true => "\tsigns in at the identity provider",
                    false => "",
                };
                println!("{}\t{}\t{role}{bound}{ended}", account.id, account.name);
            }
        }
        Officer::Binding(command) => binding_commands::run(command).await?,
        Officer::Wings { name, wings, data } => {
            let state = open(&data).await?;
            let wings = consultations::set_officer_wings(&state, &name, &wings, ACTOR).await?;
            if wings.is_empty() {
                println!("{name} may open records of all wings.");
            } else {
                println!("{name} may open records of {}.", wings.join(", "));
            }
        }
        Officer::Disable { name, data } => {
            let officer = officers::disable(&open(&data).await?, &name, ACTOR).await?;
            println!("{officer} has no account any more; open sessions have ended.");
        }
        Officer::BreakGlass(command) => break_glass_commands::run(command).await?,
    }
    Ok(())
}

async fn people(command: Registry) -> anyhow::Result<()> {
    match command {
        Registry::List(data) => {
            let state = open(&data).await?;
            log_commands::consulted(&state, "registry_list").await?;
            for subject in registry::list(&state).await? {
                match subject {
                    Ok(subject) => println!(
                        "{}\t{}\t{}",
                        subject.id,
                        subject.record.category.code(),
                        subject.record.status.code()
                    ),
                    Err(error) => println!("(a record cannot be opened: {error})"),
                }
            }
        }
        Registry::Status {
            subject,
            status,
            reason,
            second,
            data,
        } => {
            let state = open(&data).await?;
            let change = proposals::of_status(&state, subject, status).await?;
            if !change.at_once() {
                approved(&state, &change.asked(subject, &reason), &second).await?;
            }
            let done = proposals::set_status(&state, subject, &change, ACTOR, &reason).await;
            if let Err(ProposalError::Changed) = done {
                anyhow::bail!(
                    "the status of {subject} changed since this was asked for, so nothing was done; look at the record, and give the command again"
                );
            }
            let index = done?;
            println!("{subject} is now {}; log entry {index}.", status.code());
        }
        Registry::Wing {
            subject,
            wing,
            data,
        } => {
            let state = open(&data).await?;
            consultations::set_wing(&state, subject, wing.as_deref(), ACTOR).await?;
            println!("{subject}: {}.", wing.as_deref().unwrap_or("no wing"));
        }
        Registry::Group {
            subject,
            group,
            reason,
            second,
            data,
        } => {
            let state = open(&data).await?;
            profiles::current(&state).await?;
            let listed = group
                .as_deref()
                .map(|code| demographics::listed(&state, code));
            let what = match listed.transpose()? {
                Some(group) => format!(
                    "Record the demographic group {} (\"{}\") of {subject}.",
                    group.code, group.words
                ),
                None => format!("Remove the recorded demographic group of {subject}."),
            };
            let asked = Asked {
                kind: Kind::Group,
                subject: Some(subject),
                officer: None,
                what,
                reason: reason.clone(),
            };
            approved(&state, &asked, &second).await?;
            let index =
                demographics::record(&state, subject, group.as_deref(), &reason, ACTOR).await?;
            let what = if group.is_some() {
                "a group is recorded"
            } else {
                "no group is recorded"
            };
            println!("{subject}: {what}; log entry {index}.");
        }
        Registry::Record(command) => record_commands::run(command).await?,
        Registry::Merging(command) => merge_commands::run(command).await?,
        Registry::NewKey(data) => {
            let version = keys::prepare(&open(&data).await?, ACTOR).await?;
            println!(
                "Key version {version} made. Copy registry.key to the other servers of this database, then: sallyport-server registry rewrap"
            );
        }
        Registry::Rewrap(data) => {
            let state = open(&data).await?;
            let done = keys::rewrap(&state, ACTOR, |keys| {
                // The first batch too: it shows that it goes on.
                if keys % 1_000 == 0 || keys <= 100 {
                    println!("{keys} keys wrapped anew");
                }
            })
            .await
            .context("the rotation stopped; run it again to go on")?;
            println!(
                "{} keys wrapped under key version {}; older versions are refused. Back registry.key up. When no backup from before is needed any more: sallyport-server registry retire-key {}",
                done.keys,
                done.version,
                done.version - 1
            );
        }
        Registry::RenewTemplates(data) => {
            let state = open(&data).await?;
            let done = templates::renew(&state, ACTOR, |references| {
                if references % 1_000 == 0 || references <= 100 {
                    println!("{references} templates under the new secret");
                }
            })
            .await
            .context("the renewal stopped; run it again to go on")?;
            println!(
                "{} templates brought under secret {}; older secrets are destroyed here and remain in backups made before. Restart the servers: until then each compares under the secret it started with.",
                done.references, done.version
            );
        }
        Registry::ProtectKeys(arguments) => key_commands::protect(arguments).await?,
        Registry::RecoveryKey { file, data } => key_commands::recovery_key(&file, &data).await?,
        Registry::MigrateStore(arguments) => backup_commands::migrate(arguments).await?,
        Registry::RetireKey {
            version,
            reason,
            second,
            data,
        } => {
            let state = open(&data).await?;
            let asked = Asked {
                kind: Kind::Key,
                subject: None,
                officer: None,
                what: format!(
                    "Destroy version {version} of the key-encryption key: backups made under it cannot be opened with this key file any more."
                ),
                reason,
            };
            approved(&state, &asked, &second).await?;
            keys::retire(&state, version, ACTOR).await?;
            println!("Key version {version} destroyed.");
        }
        Registry::Remove {
            subject,
            reason,
            second,
            data,
        } => {
            let state = open(&data).await?;
            let asked = Proposed::Removal.asked(subject, &reason);
            approved(&state, &asked, &second).await?;
            let index = registry::remove(&state, subject, ACTOR).await?;
            println!(
                "{subject} removed with all references; log entry {index}. The log keeps the pseudonym only."
            );
        }
    }
    Ok(())
}
