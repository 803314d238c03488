#!/bin/sh
# `serve`, the default, starts a whole server, without tokens, as in TorchServe's image. Anything else is a
# command to run.
set -e

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
