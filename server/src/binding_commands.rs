//! Accounts that sign in at the state's identity provider: bound and unbound here, by an administrator.

use clap::Subcommand;
use sallyport_server::officers;

use super::{ACTOR, Data, open};

#[derive(Subcommand)]
pub(super) enum Binding {
    /// Bind an account to one subject of the identity provider of [oidc] in server.toml: from then on it signs in there, with its
    /// security key or code here. A supervisor approves first, unless it is a gate officer's.
    #[cfg(feature = "oidc")]
    BindOidc {
        /// Name of the account.
        name: String,
        /// The subject (claim `sub`) as the provider's own list of users has it.
        #[arg(long)]
        subject: String,
        /// Why; the supervisor who approves reads it.
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        #[command(flatten)]
        second: super::Second,
        #[command(flatten)]
        data: Data,
    },
    /// Let an account sign in with its password again, such as when the identity provider is away.
    UnbindOidc {
        /// Name of the account.
        name: String,
        #[command(flatten)]
        data: Data,
    },
}

pub(super) async fn run(command: Binding) -> anyhow::Result<()> {
    match command {
        #[cfg(feature = "oidc")]
        Binding::BindOidc {
            name,
            subject,
            reason,
            second,
            data,
        } => {
            use sallyport_server::approvals::{self, Asked, Kind};

            let state = open(&data).await?;
            let bound = officers::to_be_bound(&state, &name, &subject).await?;
            if approvals::needs_approval(bound.role) {
                let what = format!(
                    "Bind the account of {} (officer {}) with the role {} to the subject \"{}\" of {}: whoever signs in there as this subject needs only the account's security key to be this officer.",
                    bound.account.name,
                    bound.account.id,
                    bound.role.code(),
                    bound.subject,
                    bound.issuer
                );
                let asked = Asked {
                    kind: Kind::Account,
                    subject: None,
                    officer: Some(bound.account.id),
                    what,
                    reason,
                };
                super::approved(&state, &asked, &second).await?;
            }
            officers::bind(&state, &bound, ACTOR).await?;
            println!(
                "{name} signs in at {} from now on; open sessions have ended.",
                bound.issuer
            );
        }
        Binding::UnbindOidc { name, data } => {
            officers::unbind(&open(&data).await?, &name, ACTOR).await?;
            println!(
                "{name} signs in with password and second factor again; open sessions have ended. A forgotten password: sallyport-server officer setup-link --renew"
            );
        }
    }
    Ok(())
}
