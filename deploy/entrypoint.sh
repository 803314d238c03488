#!/bin/sh
# `serve`, the default, starts a whole server, without tokens, as in TorchServe's image. Anything else is a
# command to run.
set -e

# TorchServe's image does not end with its command: after a script that has started a server in the background,
# the container stays until that server ends, or is stopped when the container is.
STAY='trap stopped=yes INT TERM
"$@" || exit
pid=$(cat "${TMPDIR:-$TEMP}/.model_server.pid" 2>/dev/null) || exit 0
[ -z "$stopped" ] || exit 0
trap "torchserve --stop" INT TERM
(trap "" TERM; exec tail --pid="$pid" -f /dev/null) &
wait $!'

# TorchServe's image evaluates its words: variables in an exec-form CMD are filled in, and a command that is one
# string is split. Words without variables, quotes and blanks stay as they are (`&` in URLs).
case "$1" in
torchserve | "torchserve "*)
    case "$*" in
    *" && "* | *" || "* | *"; "* | *" | "* | *" &")
        set -- sh -c "$*"
        ;;
    *)
        for word in "$@"; do
            case "$word" in
            *[\$\`\"\'\ ]*)
                eval "set -- $*"
                break
                ;;
            esac
        done
        ;;
    esac
    ;;
*" "*torchserve*--start*)
    set -- sh -c "$*" # several commands in one string
    ;;
esac

# Another user, or a read-only root: the state directory finds a place of its own, and the logs go there.
[ -w "${LOG_LOCATION:-/}" ] || unset LOG_LOCATION

# A secret that is mounted as a file.
if [ -n "$REDIS_URL_FILE" ]; then
    MARQ_REDIS_URL=$(cat "$REDIS_URL_FILE")
    export MARQ_REDIS_URL
fi

case "$1" in
serve)
    shift
    export MARQ_DISABLE_TOKEN_AUTH="${MARQ_DISABLE_TOKEN_AUTH:-true}"
    set -- marq start "$@"
    ;;
torchserve)
    set -- "$@" --foreground # a container ends with its first process
    ;;
*)
    case "$*" in
    *torchserve*--start* | *.sh | *".sh "*) set -- -g -- sh -c "$STAY" sh "$@" ;;
    esac
    ;;
esac

# tini passes signals on (-g: to all processes of a script), and reaps the children of crashed processes.
[ "$1" = -g ] || set -- -- "$@"
exec tini "$@"
