#!/bin/sh
# `serve`, the default, starts a whole server, without tokens, as in TorchServe's image. Anything else is a
# command to run.
set -e

# TorchServe's image evaluates its words: variables in an exec-form CMD are filled in, and a command that is one
# string is split. Words without variables, quotes and blanks stay as they are (`&` in URLs).
case "$1" in
torchserve | "torchserve "*)
    case "$*" in
    *" && "* | *" || "* | *"; "* | *" | "* | *" &")
        set -- sh -c "$*" # more than one command: what the last one does keeps the container alive
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
esac

# tini passes signals on, and reaps the children of crashed processes.
exec tini -- "$@"
