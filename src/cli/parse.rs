//! Reads the command line as istiod's flag package does, where clap differs.

use std::env;

use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, Error},
};

/// Reads the arguments and variables of this process; ends it where they are
/// wrong or ask for help.
pub(super) fn parse<C: CommandFactory + FromArgMatches>() -> C {
    let mut command = as_go(C::command());
    let parsed = command.try_get_matches_from_mut(env::args_os());
    let read = |mut matches: ArgMatches| C::from_arg_matches_mut(&mut matches);
    let result = parsed.and_then(read);
    result.unwrap_or_else(|error| {
        if let Some(variable) = variable_of(&error, &command) {
            anstream::eprintln!("isthmus: the variable {variable} cannot be used");
        }
        error.format(&mut command).exit()
    })
}

/// In Go the last of several equal flags counts, as Helm's extraContainerArgs
/// rely on, and an empty variable is one that is not set.
fn as_go(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        // `[env: NAME]`, not what it is set to here: help is for reading.
        let arg = arg.hide_env_values(true);
        let arg = match (arg.get_action(), arg.get_id().clone()) {
            (ArgAction::Set, id) => arg.overrides_with(id),
            _ => arg,
        };
        if value_of(&arg).is_some_and(|value| value.is_empty()) {
            return arg.env(None::<&'static str>);
        }
        arg
    });
    let names: Vec<_> = command
        .get_subcommands()
        .map(|c| c.get_name().to_owned())
        .collect();
    names
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, as_go))
}

fn value_of(arg: &Arg) -> Option<std::ffi::OsString> {
    env::var_os(arg.get_env()?)
}

/// The variable that the value came from which `error` is about: clap names
/// only the flag.
fn variable_of(error: &Error, command: &Command) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (flag, value) = (
        text(ContextKind::InvalidArg)?,
        text(ContextKind::InvalidValue)?,
    );
    let name = flag.trim_start_matches('-').split(['[', '=', ' ']).next();
    let args = command.get_subcommands().flat_map(Command::get_arguments);
    let mut of_variable = args
        .filter(|arg| arg.get_long() == name && value_of(arg).is_some_and(|set| *set == *value));
    let variable = of_variable.next()?.get_env()?;
    Some(variable.to_string_lossy().into_owned())
}
