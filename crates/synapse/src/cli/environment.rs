//! Gives every flag its environment variable, in one place, so that no flag can be forgotten.

use std::env;

use clap::{Arg, ArgAction, Command, builder::BoolishValueParser};

/// The heading of flags that describe a change of something that exists. They read no variable: one
/// that was set for another command would silently become part of the change.
pub(super) const CHANGE_FLAGS: &str = "Changes";

/// The same for flags that say what a key is bound to or may spend: what one key is given must not come from
/// the environment of all.
pub(super) const BINDING_FLAGS: &str = "Binding";

/// Adds `SYNAPSE_<FLAG>` to every long flag of the command and of those below it.
pub(super) fn extend(command: Command) -> Command {
    command.mut_args(with_variable).mut_subcommands(extend)
}

fn with_variable(arg: Arg) -> Arg {
    let Some(flag) = arg.get_long() else { return arg };
    if arg.get_env().is_some() || matches!(arg.get_help_heading(), Some(CHANGE_FLAGS | BINDING_FLAGS)) {
        return arg;
    }
    let variable = format!("SYNAPSE_{}", flag.to_uppercase().replace('-', "_"));
    if !is_meant_for_us(&variable) {
        return arg;
    }
    // Some values are secrets, so help shows none.
    let arg = arg.env(variable).hide_env_values(true);
    match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
        _ => arg,
    }
}

/// An empty variable is how a compose file says "not set"; and next to services named `synapse`
/// and `synapse-metrics`, Kubernetes puts `SYNAPSE_PORT=tcp://…` and its like into every container.
fn is_meant_for_us(variable: &str) -> bool {
    env::var_os(variable).is_none_or(|value| {
        let value = value.to_string_lossy();
        !(value.is_empty() || variable.ends_with("_PORT") && value.starts_with("tcp://"))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn flags_without_variable(command: &Command, path: &str, found: &mut Vec<String>) {
        let missing =
            command.get_arguments().filter(|arg| arg.get_long().is_some() && arg.get_env().is_none());
        found.extend(missing.map(|arg| format!("{path} --{}", arg.get_long().unwrap_or_default())));
        for below in command.get_subcommands() {
            flags_without_variable(below, &format!("{path} {}", below.get_name()), found);
        }
    }

    #[test]
    fn every_flag_has_a_variable_except_those_that_change_or_bind_a_key_or_a_team() {
        let mut found = Vec::new();
        flags_without_variable(&extend(super::super::Cli::command()), "synapse", &mut found);
        assert!(!found.is_empty());
        let may = [
            "synapse key update --",
            "synapse key create --",
            "synapse team update --",
            "synapse team create --",
        ];
        assert!(found.iter().all(|flag| may.iter().any(|known| flag.starts_with(known))), "{found:?}");
    }
}
